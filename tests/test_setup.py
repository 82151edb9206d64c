"""setup_training_env.sh without network and installs: a stand-in Python takes the part of the real ones and of pip."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = "bash basename cat chmod cksum cp dirname env find flock grep id ls mkdir mv readlink rm sleep touch".split()
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")

# The stand-in knows each piece of Python that the script pipes into an interpreter by one of its words.
FAKE_PYTHON = r"""#!/bin/bash
home=%(home)s
case "$*" in
    "-m venv "*) echo "venv $0" >>$home/log; mkdir -p "$3/bin"; touch "$3/pyvenv.cfg"; cp "$0" "$3/bin/python"; exit ;;
    "-I -c import pip") exit ;;
    "-I -c "*) echo 2.13.0; exit ;;
    "-I -m pip "*)
        echo "pip ${*:4}" >>$home/log
        if [ -e $home/pip-fails ]; then echo 'ERROR: no network' >&2; exit 1; fi
        case "$*" in *" torch==2.13.0") cp $home/pip-gives $home/torch ;; esac
        exit ;;
    "-I "*"/training/device.py "*)
        echo "device ${*: -1}" >>$home/log; echo "PASS  device: fake"; [ ! -e $home/device-fails ]; exit ;;
    "-I - "* | "-I -") code=$(cat) ;;
    *) echo "fake python: $*"; exit ;;
esac
case $code in
    *"import bz2"*) echo %(version)s ;;
    *PackageNotFoundError*) cat $home/torch ;;
    *urlopen*) cat $home/index-problem 2>/dev/null || true ;;
esac
"""


class Machine:
    """A copy of the project and a PATH with nothing on it but the tools of the script and what a test adds."""

    def __init__(self, home):
        self.home, self.bin, self.project = home, home / "bin", home / "my project"
        self.bin.mkdir()
        self.project.mkdir()
        for name in ("setup_training_env.sh", "requirements.txt"):
            shutil.copy(ROOT / name, self.project)
        for tool in TOOLS:
            if shutil.which(tool):
                (self.bin / tool).symlink_to(shutil.which(tool))
        (home / "torch").write_text("none none\n")
        (home / "pip-gives").write_text("2.13.0+cpu cpu\n")

    def command(self, name, text):
        path = self.bin / name
        path.write_text(text if text.startswith("#!") else "#!/bin/bash\n" + text)
        path.chmod(0o755)
        return path

    def python(self, name, version):
        return self.command(name, FAKE_PYTHON % {"home": self.home, "version": version})

    def run(self, *args, cwd=None, **env):
        env = {"PATH": str(self.bin), "HOME": str(self.home), **env}
        script = self.project / "setup_training_env.sh"
        return subprocess.run(["bash", str(script), *args], cwd=cwd or self.project, env=env, capture_output=True,
                              text=True, timeout=60)

    def log(self):
        """What the stand-in was asked since the last call."""
        path = self.home / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    machine.python("python3.12", "3.12")
    return machine


def test_syntax_and_mode():
    for script in ("setup_training_env.sh", ".ci/run"):
        subprocess.run(["bash", "-n", str(ROOT / script)], check=True)
        assert os.access(ROOT / script, os.X_OK), script
    text = (ROOT / "setup_training_env.sh").read_text()
    assert "--extra-index-url" not in text.replace("with --extra-index-url pip", "")
    assert "\nsudo" not in text and "curl" not in text


def test_help(machine):
    for option in ("-h", "--help"):
        run = machine.run(option)
        assert run.returncode == 0 and run.stderr == ""
        for word in ("--backend rocm|cuda|cpu", "--python PATH", "--venv DIR", "--dry-run", "3.12 3.13 3.11 3.10 3.14"):
            assert word in run.stdout


@pytest.mark.parametrize("args", [
    ["--frobnicate"], ["-x"], ["--backend", "gpu"], ["--backend"], ["--backend="], ["--venv"], ["--venv", ""],
    ["--python", "/nowhere/python"], ["--python", "python3.15"], ["--python=shim"], ["--backend", "--dry-run"],
])
def test_bad_options_give_one_line_and_status_2(machine, args):
    machine.python("python3.15", "3.15")
    machine.command("shim", "echo 'pyenv: shim: command not found' >&2; exit 127")
    run = machine.run(*args)
    assert run.returncode == 2 and run.stdout == ""
    assert len(run.stderr.splitlines()) == 1 and args[0].split("=")[0] in run.stderr
    assert not (machine.project / "venv").exists()


@pytest.mark.parametrize("backend, index", [("rocm", "rocm7.2"), ("cuda", "cu130"), ("cpu", "cpu")])
def test_backend_can_be_chosen(machine, backend, index):
    for args in (["--backend", backend], [f"--backend={backend}"]):
        run = machine.run("--dry-run", *args)
        assert run.returncode == 0
        assert f"backend: {backend} (--backend {backend})\n" in run.stdout
        assert f"torch:   2.13.0 from https://download.pytorch.org/whl/{index}\n" in run.stdout
    assert machine.log() == [] and not (machine.project / "venv").exists()


NVIDIA = """if [ "$1" = -L ]; then echo "GPU 0: NVIDIA RTX (UUID: x)"; else echo "%s"; fi"""


@pytest.mark.skipif(Path("/dev/kfd").exists(), reason="this machine has an AMD GPU")
def test_backend_is_detected(machine):
    assert "backend: cpu " in machine.run("--dry-run").stdout
    machine.command("rocminfo", "echo '  Device Type:             CPU'; exit 0")
    assert "backend: cpu " in machine.run("--dry-run").stdout
    machine.command("rocminfo", "echo '  Device Type:             GPU'")
    assert "backend: rocm " in machine.run("--dry-run").stdout
    machine.command("nvidia-smi", "echo 'NVIDIA-SMI has failed: no driver'; exit 9")
    assert "backend: rocm " in machine.run("--dry-run").stdout
    machine.command("nvidia-smi", NVIDIA % "12.0, 580.95.05")
    both = machine.run("--dry-run").stdout
    assert "backend: cuda " in both and "--backend rocm" in both


@pytest.mark.parametrize("card, index", [
    ("8.9, 580.95.05", "cu130"), ("8.9, 550.54.15", "cu126"), ("7.0, 580.95.05", "cu126"), ("12.0, 570.10", "cu130"),
    ("[N/A], [N/A]", "cu130"),
])
def test_cuda_index_suits_card_and_driver(machine, card, index):
    machine.command("nvidia-smi", NVIDIA % card)
    assert f"/whl/{index}\n" in machine.run("--dry-run", "--backend", "cuda").stdout


def test_warns_of_the_wrong_chip(machine):
    run = machine.run("--dry-run", HSA_OVERRIDE_GFX_VERSION="12.0.0")
    assert run.returncode == 0 and run.stderr.count("warning:") == 1
    assert "HSA_OVERRIDE_GFX_VERSION=12.0.0" in run.stderr and "gfx1201" in run.stderr
    assert "HSA" not in machine.run("--dry-run").stderr
    assert "HSA" not in machine.run("--dry-run", HSA_OVERRIDE_GFX_VERSION="").stderr


def test_warns_of_missing_groups_with_rocm_only(machine):
    (machine.bin / "id").unlink()
    machine.command("id", """[ "$1" = -u ] && echo 1000 || echo "me wheel video" """)
    run = machine.run("--dry-run", "--backend", "rocm")
    assert run.returncode == 0
    assert "the groups: render," in run.stderr and "sudo usermod -aG render,video $USER" in run.stderr
    assert machine.run("--dry-run", "--backend", "cpu").stderr == ""
    machine.command("id", """[ "$1" = -u ] && echo 1000 || echo "me render video" """)
    assert machine.run("--dry-run", "--backend", "rocm").stderr == ""
    machine.command("id", "echo 0")
    assert machine.run("--dry-run", "--backend", "rocm").stderr == ""


def chosen(machine, *args):
    run = machine.run("--dry-run", *args)
    assert run.returncode == 0, run.stderr
    return next(line.split(None, 1)[1] for line in run.stdout.splitlines() if line.startswith("python:"))


def test_python_order(machine):
    for version in ("3.14", "3.10", "3.11", "3.13", "3.12"):  # each one is better than those before
        path = machine.python(f"python{version}", version)
        (machine.bin / "python3.12").unlink() if version == "3.14" else None
        assert chosen(machine) == f"{version} ({path})"
    assert chosen(machine, "--python", "python3.10") == "3.10 (python3.10)"
    assert chosen(machine, f"--python={machine.bin}/python3.13") == f"3.13 ({machine.bin}/python3.13)"


def test_python_that_does_not_run_is_passed_over(machine):
    machine.command("python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    machine.command("python3.13", "echo \"No module named 'ensurepip'\" >&2; exit 1")
    machine.python("python3.11", "unsupported")  # another implementation, or without the interpreter lock
    path = machine.python("python3", "3.10")
    assert chosen(machine) == f"3.10 ({path})"
    good = machine.python("python", "3.12")  # the plain name is fine when it is the wanted version
    assert chosen(machine) == f"3.12 ({good})"


def test_a_working_python_behind_a_broken_one(machine, tmp_path):
    machine.command("python3.12", "exit 127")
    second = tmp_path / "second"
    second.mkdir()
    shutil.copy(machine.python("other", "3.12"), second / "python3.12")
    run = machine.run("--dry-run", PATH=f"{machine.bin}:{second}")
    assert f"3.12 ({second}/python3.12)" in run.stdout


def test_no_usable_python(machine):
    (machine.bin / "python3.12").unlink()
    machine.python("python3", "3.15")
    run = machine.run()
    assert run.returncode == 1 and "no usable Python" in run.stderr and "--python" in run.stderr
    assert not (machine.project / "venv").exists()


def test_first_and_second_run(machine):
    run = machine.run("--backend", "cpu")
    assert run.returncode == 0, run.stderr
    assert "PASS" in run.stdout and run.stdout.splitlines()[-3:-2] == ["  source venv/bin/activate"]
    assert "python train.py --dataset sample" in run.stdout
    index = "https://download.pytorch.org/whl/cpu"
    assert machine.log() == [
        f"venv {machine.bin}/python3.12",
        f"pip --disable-pip-version-check --no-input install -qq --index-url {index} torch==2.13.0",
        "pip --disable-pip-version-check --no-input install -qq -r " + f"{machine.project}/requirements.txt"
        f" -c {machine.project}/venv/.setup-constraints",
        "device cpu",
    ]
    assert machine.run("--backend", "cpu").returncode == 0
    assert machine.log() == ["device cpu"]
    assert "activate.fish" in machine.run("--backend", "cpu", SHELL="/usr/bin/fish").stdout


def test_command_output_status_and_folder(machine, tmp_path):
    machine.command("shout", """echo "in $PWD, $VIRTUAL_ENV, $*"; exit 7""")
    for _ in range(2):
        run = machine.run("--backend", "cpu", "shout", "--venv", "a  b", "--dry-run", cwd=tmp_path)
        assert run.returncode == 7  # options after the command are the command's, and its stdout holds nothing else
        assert run.stdout == f"in {tmp_path}, {machine.project}/venv, --venv a  b --dry-run\n"
    assert run.stderr == ""  # and the second time it is silent
    assert machine.log()[-1] == "device cpu"
    assert "PASS" in machine.run("--backend", "cpu", "--venv", "elsewhere", "shout", cwd=tmp_path).stderr
    assert (tmp_path / "elsewhere/bin/python").exists()
    assert machine.run("--backend", "cpu", "python", "x.py").stdout == "fake python: x.py\n"  # the venv comes first
    assert machine.run("--backend", "cpu", "no-such-command").returncode == 127


def test_changed_requirements_are_installed(machine):
    assert machine.run("--backend", "cpu").returncode == 0
    with open(machine.project / "requirements.txt", "a") as file:
        file.write("attrs\n")
    machine.log()
    assert machine.run("--backend", "cpu").returncode == 0
    assert [line.split()[4:6] for line in machine.log() if line.startswith("pip")] == [["-qq", "-r"]]


def test_a_package_that_went_missing_is_installed(machine):
    assert machine.run("--backend", "cpu").returncode == 0
    (machine.home / "torch").write_text("2.13.0+cpu cpu einops\n")
    machine.log()
    machine.run("--backend", "cpu")
    assert sum(line.startswith("pip") for line in machine.log()) == 1


def test_unreachable_index(machine):
    (machine.home / "index-problem").write_text("Name or service not known\n")
    run = machine.run("--backend", "cpu")
    assert run.returncode == 0
    assert sum("cannot be reached (Name or service not known)" in line for line in run.stdout.splitlines()) == 1
    assert [line for line in machine.log() if line.endswith(" torch==2.13.0")] == [
        "pip --disable-pip-version-check --no-input install -qq torch==2.13.0"]


def test_another_build_is_replaced_but_not_in_a_loop(machine):
    (machine.home / "torch").write_text("2.13.0 cuda\n")
    machine.run("--backend", "cpu")
    assert not any("torch" in line for line in machine.log())  # a CUDA build is good enough for the CPU

    (machine.home / "index-problem").write_text("timed out\n")
    for _ in range(2):
        run = machine.run("--backend", "rocm")
        assert not any("torch" in line for line in machine.log())
        assert "torch 2.13.0 (cuda) stays" in run.stderr

    (machine.home / "index-problem").unlink()
    (machine.home / "pip-gives").write_text("2.13.0+rocm7.2 rocm\n")
    machine.run("--backend", "rocm")
    assert [line.split()[3] for line in machine.log() if "torch" in line] == ["uninstall", "install"]
    machine.run("--backend", "rocm")
    assert not any("torch" in line for line in machine.log())


def test_interrupted_set_up_is_made_again(machine):
    (machine.home / "pip-fails").touch()
    run = machine.run("--backend", "cpu")
    assert run.returncode == 1 and "pip failed" in run.stderr and "ERROR: no network" in run.stderr
    (machine.home / "pip-fails").unlink()
    (machine.project / "venv/half-copied").touch()
    machine.log()
    run = machine.run("--backend", "cpu")
    assert run.returncode == 0 and "the last set-up was interrupted" in run.stdout
    assert machine.log()[0].startswith("venv ") and not (machine.project / "venv/half-copied").exists()


def test_broken_and_moved_environments_are_made_again(machine):
    assert machine.run("--backend", "cpu").returncode == 0
    (machine.project / "venv/bin/python").write_text("#!/bin/bash\nexit 1\n")  # as after an upgrade of the system
    assert "no longer runs" in machine.run("--dry-run").stdout
    assert "no longer runs" in machine.run("--backend", "cpu").stdout
    moved = machine.project.rename(machine.home / "moved")
    machine.project = moved
    assert "its folder was moved" in machine.run("--backend", "cpu").stdout
    assert "remaking" not in machine.run("--backend", "cpu").stdout


def test_a_link_to_the_project_is_no_move(machine, tmp_path):
    assert machine.run("--backend", "cpu").returncode == 0
    link = tmp_path / "link"
    link.symlink_to(machine.project)
    machine.project = link
    assert "moved" not in machine.run("--dry-run").stdout


def test_no_other_folder_is_touched(machine, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("x")
    run = machine.run("--backend", "cpu", "--venv", str(precious))
    assert run.returncode == 1 and "is not a Python environment" in run.stderr
    assert os.listdir(precious) == ["thesis.txt"]
    assert machine.run("--backend", "cpu", "--venv", str(precious / "thesis.txt")).returncode == 1


def test_another_python_than_the_environments(machine):
    assert machine.run("--backend", "cpu").returncode == 0
    machine.python("python3.11", "3.11")
    run = machine.run("--python", "python3.11")
    assert run.returncode == 1 and "has Python 3.12, not 3.11" in run.stderr


def test_failed_device_check(machine):
    (machine.home / "device-fails").touch()
    run = machine.run("--backend", "cpu")
    assert run.returncode != 0 and "device check failed" in run.stderr and "Ready" not in run.stdout
    run = machine.run("--backend", "cpu", "bash", "-c", "echo ran")
    assert run.returncode != 0 and run.stdout == ""
    (machine.home / "device-fails").unlink()
    assert machine.run("--backend", "cpu", "bash", "-c", "echo ran").stdout == "ran\n"


def test_ci_runs_the_readme_command_from_anywhere(machine, tmp_path):
    (machine.project / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", machine.project / ".ci/run")
    (machine.project / "setup_training_env.sh").write_text('echo "$PWD: $*"; exit 5\n')
    run = subprocess.run([machine.project / ".ci/run"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 5 and run.stdout == f"{machine.project}: pytest\n"


def test_a_checkout_with_windows_line_ends_keeps_its_files(tmp_path):
    """As Git for Windows sets it, and WSL then runs the script."""
    git = lambda *words: subprocess.run(["git", "-C", str(tmp_path), "-c", "core.autocrlf=true", "-c", "user.name=a",
                                         "-c", "user.email=a@b", *words], check=True, capture_output=True)
    files = {".gitattributes": (ROOT / ".gitattributes").read_bytes(), "a.sh": b"set -euo pipefail\n",
             "b.py": b"a\n", "c.txt": b"a\nb\n", "d.png": b"\x89PNG\r\n\x1a\nrest\n", "e.gif": b"GIF89a\r\n\n",
             "f.safetensors": b"{}\r\ntext\n"}
    git("init", "-q")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    git("add", ".")
    git("commit", "-qm", "all")
    for name in files:
        (tmp_path / name).unlink()
    git("checkout", "-q", ".")
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


@pytest.mark.slow
def test_modules_are_importable_from_elsewhere(tmp_path):
    """`pip install -e .`, into a folder of its own; needs the build backend, from pip's configuration."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("venv", ".git", "checkpoints", "data", "__pycache__"))
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path / "site"), "-e",
                    str(copy)], check=True)
    code = (f"import site; site.addsitedir({str(tmp_path / 'site')!r}); import models, wheeler_cpu, wheeler_store; "
            "from wheeler.training.stories import stories; print(models.__file__, len(stories('train', 3)))")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(copy / "models.py"), "3"]
