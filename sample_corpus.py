"""Short children's stories from a small grammar, so that a fresh machine trains without a download.

    python sample_corpus.py                         # three stories of the training split
    python sample_corpus.py --split validation -n 5

    from sample_corpus import stories
    train, validation = stories("train"), stories("validation")     # 8,000 and 500 texts

A story is a plot (something lost, a quarrel, a storm, ...) written as a template. Three marks are replaced:
    [a|b|c]    one of the alternatives, which may hold further marks; an empty one is allowed
    [? a]      present in long stories, mostly absent in short ones
    {name}     a value chosen once for the whole story: hero H (he/him/his in the right gender), friend F, the adult mum
"//" ends a paragraph. The article is always written "a" and corrected afterwards.

The same call gives the same stories on every Python version: only `random.Random(str)` and its `random()` are used,
which Python promises to keep. The split is a checksum of the text, so no story is in both, whatever `n` and `seed` are.
"""

import argparse
import re
import sys
import zlib
from random import Random

SIZES = {"train": 8000, "validation": 500}
WORDS = range(30, 251)  # allowed length of a story

GIRLS = """Ada Amy Anna Bella Chloé Clara Daisy Elsie Emma Eva Freya Grace Hanna Inés Iris Ivy Jill Kate Lena
Lily Lucy Maya Mia Molly Nina Nora Olive Penny Renée Rosa Ruby Sally Sara Sofía Tess Una Vera Wendy Yasmin
Zoë""".split()
BOYS = """Adam Ali Ben Björn Carl Dan Eli Eric Felix Finn Gus Hugo Ian Jack Jamal José Kai Leo Liam Max Milo
Ned Nico Noah Omar Oscar Otto Pablo Pete Ravi René Sam Søren Theo Tim Toby Uri Victor Will Yusuf Zack""".split()
ANIMALS = "rabbit fox mouse bear badger otter squirrel hedgehog mole beaver".split()
WOMEN = ["mother", "grandmother", "aunt", "big sister"]
MEN = ["father", "grandfather", "uncle", "big brother"]
PRONOUNS = {"f": ("she", "her", "her", "herself"), "m": ("he", "him", "his", "himself")}

LISTS = {  # one value of each list for a story, under the name of the list
    "adj": """kind, brave, shy, curious, clever, gentle, cheerful, quiet, stubborn, honest, impatient, funny,
careful, polite, eager, thoughtful, playful, patient, lively, friendly, sleepy, bold""",
    "age": """four, five, six, seven, eight, nine""",
    "num": """two, three, four, five, six, seven, eight, nine, ten, eleven, twelve""",
    "day": """morning, afternoon, day, Monday, Tuesday, Friday, Sunday, Wednesday morning, Thursday afternoon,
Saturday morning, bright morning, quiet afternoon""",
    "c": """red, blue, green, yellow, purple, orange, silver, white, brown, pink, striped, shiny, old, tiny, golden,
gray""",
    "t": """ball, kite, hat, scarf, drum, toy boat, teddy bear, whistle, lantern, watch, paintbrush, music box,
storybook, mitten, marble, button, ring, umbrella, compass, wooden horse, yo-yo""",
    "toy": """kite, toy boat, drum, wooden horse, umbrella, toy castle, toy train, puppet, toy airplane""",
    "food": """bread and honey, cheese and apples, raisin bread, berry pie, corn bread, pancakes, roasted nuts, carrot
cake, oatmeal cookies, sesame rolls""",
    "hobby": """draw, sing, dig holes, count the stars, collect shells, jump in puddles, climb trees, tell jokes,
read old maps, build towers, ask questions, watch the clouds, whistle, dance in the kitchen""",
    "pet": """Pip, Biscuit, Pepper, Button, Comet, Pebble, Waffle, Clover, Noodle, Acorn, Ziggy, Dot""",
    "skill": """skate, ride a bicycle, walk on stilts, ride a unicycle, ski""",
    "mount": """donkey, cow, pony, goat, mule, camel""",
    "cents": """35, 40, 55, 65, 70, 90, 95, 120""",
    "hour": """6, 7, 8, 9, 10""",
    "mumdid": """worked as a baker, drove a bus, fixed clocks, painted signs, grew roses, told long stories, played
the violin, sold fish at the market""",
}
TUPLES = {  # the same for values that belong together
    # where, what was done there, where a thing may lie
    "pl act spot": """the pond/fed the ducks/in the reeds by the water, the park/rode the swings/under the slide,
the beach/built a sandcastle/half buried in the sand, the library/read about whales/between two big books, the old
mill/picked berries/behind the wheel, the hill/flew paper planes/in the long yellow grass, the barn/counted the
hens/in a heap of hay, the market/bought six pears/under a table full of cheese, the bridge/waved to the boats/on a
stone, the orchard/shook the apple tree/at the foot of a crooked tree, the station/watched the trains/on a green
bench, the forest/hid from the rain/on a bed of moss""",
    # a hurt animal, the part, its food, how it left
    "beast part bfood moved": """sparrow/wing/seeds/flew, duckling/foot/oats/waddled, robin/wing/crumbs/flew,
frog/leg/flies/hopped, turtle/leg/lettuce/crawled, owl/wing/scraps of meat/flew, lizard/tail/beetles/ran,
crow/foot/corn/flew""",
    "cake need": """apple pie/apples, cherry cake/cherries, plum tart/plums, walnut cake/walnuts, lemon cake/lemons,
blueberry pie/blueberries, pumpkin pie/pumpkin, pear tart/pears""",
    "plant seed": """sunflower/seed, hollyhock/seed, bean plant/bean, corn plant/kernel, tomato plant/seed, pea
plant/pea""",
}
HOMES = {
    "child": """in a yellow house at number {n} Maple Street, in a small house by the lake, in a village between two
hills, in a tall house with {num} floors, on a farm with {n} cows, on a noisy street near the station, on a
houseboat, in a cabin in the mountains, in a town with one bakery and {num} bridges, in an old windmill""",
    "animal": """in a warm den under an old oak, in a cozy hole near the stream, in a hollow log, in a green forest,
in a den with {num} rooms and a round door, under the roots of a giant tree, at the edge of a meadow""",
}
LISTS = {name: " ".join(items.split()).split(", ") for name, items in LISTS.items()}
LISTS["n"] = [str(number) for number in range(13, 100)]
TUPLES = {names: [row.split("/") for row in " ".join(rows.split()).split(", ")] for names, rows in TUPLES.items()}
HOMES = {kind: " ".join(homes.split()).split(", ") for kind, homes in HOMES.items()}

OPEN = """[[Once upon a time|Once|Long ago|Many years ago], there was a {adj} {kind} [named|called] {H}. |{home},
there lived a {adj} {kind} [named|called] {H}. |{H} was a {adj} {kind} who lived {home}. |There was once a {kind}
[named|called] {H}, who was [very|always] {adj}. |{H} was a {adj} {kind}. {He} was {age} years old. |This is the
story of {H}, a {adj} {kind} who lived {home}. |{H} was {age} years old and lived {home}.] [? {He} [loved|liked] to
{hobby}[, especially [on Sundays|after dinner|in the rain]|, and {he} did it every day|].] [? {His} {mum} {mumdid}
and often said, "[Slow feet see more|A kind word weighs nothing|Every day has a door in it|Ask twice and cut
once|The moon was not made in a hurry]."] //"""

PLOTS = {
    "lost": """{H}'s favorite thing [in the world|of all] was a {c} {t}[? that {he} had [won at the fair|found in
the attic|bought for {num} cents]]. One {day} it was gone. "Where is my {t}?" [cried|asked] {H}. {He} looked [under
the bed|behind the curtain|in every drawer], [in the laundry basket|on the shelf|under the rug], and even [in the
soup pot|inside {his} left boot|on top of the clock], but {he} [did not find it|found only [dust|a sock|two nuts and
a spoon]]. // [? {H} sat down on the [floor|steps] and sighed. "It was the best {t} I ever had," {he} said[| to
nobody]. // ] {friend} came by [with a basket|on a scooter|whistling a tune|to play] and saw {him}[? sitting there
with wet eyes]. "[Think back|Let us think|Do not give up]," said {F}. "Where did you have it last?" // "I had it
when we {act}," [said|answered] {H}. // "Then [I know where|that is where] we must look!" said {F}. They
[ran|hurried|walked] [all the way|straight] to {pl}. [? They asked an old man with a dog, but he [had seen
nothing|only shook his head].] They [looked high and low|searched until the sun was low|looked everywhere], and [at
last|suddenly|after a long time] {F} [shouted|pointed|waved]. There it was! The {t} lay {spot}[?, a little
[wet|dirty] but [safe|whole]]. // {H} [hugged {F}|laughed out loud|jumped for joy]. ["From now on I will [tie a
string to it|write my name on it|look after it better]," {he} said. |"You have [sharp eyes|a good head]," {he} said.
|] [On the way home they shared [some|a plate of] {food}.|That night the {t} slept next to {his} pillow.|{H} never
lost the {t} again.]""",

    "help": """One {day}, on the [road|path] to {pl}, {H} [met|saw] {F}, a {fadj} {fkind}, who looked
[tired|worried|upset]. "What is wrong?" asked {H}. // [ "My cart is stuck in the mud, and I must bring {num} sacks
of flour to the baker before noon," said {F}. // {H} did not wait. {He} [found|took] two flat boards and put them
under the wheels. "Push when I count to three," {he} said. "One, two, three!" They pushed with all their strength.
[? Mud flew into their faces, but they only laughed.] At last the cart rolled out onto the dry road.| "The wind blew
down my fence last night, and now my {num} goats are running all over the hill," said {F}. // "Then we must catch
them first," said {H}. They shook a bucket of oats and called. One by one, the goats came back[?, and the last one
even tried to eat the bucket]. After that, {H} held the posts while {F} drove in the nails.| "I promised to paint
this whole wall before dark, but my arm hurts," said {F}. // {H} took the other brush and began at the far end. [?
They sang while they worked, and the time went fast.] When the sun went down, the wall was [white|blue|yellow|green]
from one end to the other, and {H} had paint on {his} nose.| "My kitten climbed up this tree, and now it is afraid
to come down," said {F}. // {H} looked up. The kitten sat on the highest branch and shook. "I will go slowly," said
{H}. {He} climbed from branch to branch[?, and {he} did not look down once]. The kitten crept onto {his} shoulder
and held on tight. They came down together, and the kitten [began to purr|washed its face at once]. ] // ["How can I
thank you?" asked {F}. "You just did," said {H}.|{F} wanted to pay with [a silver coin|a basket of eggs], but {H}
only laughed. "Friends do not need to pay," {he} said.|"I could not have done it alone," said {F}. "Nobody can,"
said {H}.] [? They sat down on the grass and shared [some|a plate of] {food}.] [? A week later, when {H} needed
help, {F} was the first to come.]""",
    "weather": """[ One {day} the sky grew dark, and soon the rain fell so hard that {H} could not see the road.
{He} ran to [a barn|an old bus stop|a little cave] and waited there. Inside sat {friend}, who was just as wet. "You
can share my blanket," said {F}. // They listened to the thunder and counted the seconds after each flash. "One,
two, three, four, five," they counted. "It is going away!" [? {F} had some {food} in a bag, and they ate until
nothing was left.] After an hour the rain stopped, and a rainbow stood over {pl}. // ["I am almost glad that it
rained," said {H}. "So am I," said {F}.|"I was not afraid at all," said {H}. "Nor was I," said {F}[?, who was still
holding on to the blanket].]| One night it began to snow. When {H} opened the door in the morning, the snow came up
to {his} [knees|chin]. "Look, everything is white!" {he} shouted. {He} made a snowman with a carrot nose and {num}
buttons[?, and {he} put a {c} hat on its head]. Then {friend} came with a sled. They slid down the hill {num} times,
until their noses were red and their toes were numb. // In the kitchen, {his} {mum} gave them [cocoa|tea with
honey|hot soup]. "[Snow is cold|It is freezing outside]," said {H}, "but it makes the kitchen twice as warm." [? In
the night the snowman stood under the window and kept watch.]| It had not rained for {n} days. The grass was brown,
and the river was as thin as a ribbon. Every evening, {H} carried a bucket of water from the well to the old
[plum|apple|cherry] tree. "Why do you work so hard for a tree?" asked {friend}. // "Because it gave us shade all
summer," said {H}. {F} thought about that and went to get another bucket. [? From then on they went to the well
together.] // On the last night of August, the rain came at last. Everyone ran outside and danced. In the fall, the
tree gave so much fruit that they [needed {num} baskets|shared it with the whole street].| One {day} the wind was so
strong that it [took {H}'s hat|blew the laundry off the line|turned umbrellas inside out]. "[What a day|What a
wind]!" said {friend}. "Shall we stay inside?" // "No," said {H}, "it is the best day of the year!" {He} ran
upstairs and came back with a {c} kite. They took it to the [hill|beach|park|big field][?, walking backward because
of the dust]. {H} held the string while {F} threw the kite into the air. Up it went, over the roofs and over the
trees, until it was as small as a [fly|leaf|stamp]. // "Let me hold it, too," said {F}. They took turns until
[dinner|dark], and the wind pulled at the string like a big dog.]""",

    "animal": """On the way home from {pl}, {H} found a small {beast} [beside the road|under a bush|in the wet
grass]. Its {part} was hurt, and it was shaking. "Poor thing," whispered {H}. "[I will not hurt you|Do not be
afraid]." {He} wrapped it in {his} scarf and carried it home. // {His} {mum} washed the {part} with warm water. "It
needs rest, {bfood}, and someone patient," {mhe} said. {H} made a bed in a [shoe box|basket] and named the {beast}
{pet}. [? At first {pet} hid in a corner and did not eat, so {H} sat very still and sang a [low|slow] song until it
came out.] [? "How is our guest?" asked {friend} every day. "A little better," said {H}.] // After {num}
[days|weeks], {pet} was strong again. {H} knew what {he} had to do, although it made {him} sad. {He} took the basket
back to {pl} and opened it. {pet} [looked back once|waited for a moment], and then it {moved} away. // [{H} wiped
{his} eyes. "Good luck, {pet}," {he} said.|"It is free now," said {his} {mum}, "and it will not forget you."|{H} was
sad and happy at the same time, and that was new.] [? The next spring, something made a noise outside the window. It
was {pet}, and it had not come alone.]""",

    "quarrel": """[{H} and {F} were best friends and|{H} knew a {fadj} {fkind} named {F}, and they] [shared
everything|did everything together]. But one {day} they both wanted the same {c} {toy}. "[It is mine|I saw it
first|Give it to me]!" said {H}. // "[No, it is mine|No, I had it first|You always get everything]!" said {F}. They
both pulled, and with a loud crack the {toy} broke. [? For a moment it was very quiet.] {F} went home and [shut the
door|did not look back]. {H} kicked a stone[? and hurt {his} toe]. // For {num} days they did not speak. {H} tried
to play alone, but [hide and seek is no fun without somebody to hide from|a seesaw does not work with one|there was
no one to laugh at {his} jokes]. [? {His} {mum} saw {his} long face. "Being right is lonely," {mhe} said. "Being
sorry takes only a minute." // ] [On Sunday|On Saturday|The next morning], {H} took [glue and string|a brush, some
tape, and glue] and fixed the {toy}. Then {he} walked to {F}'s house and knocked. // "I am sorry," said {H} and {F}
at the same time. They looked at each other and began to laugh. [? "You sounded like an echo," said {F}.] "You [can
have it|take it] in the morning, and I will take it in the afternoon," said {H}. // "[And when it rains|And on
Sundays], [we will share it|it can sleep]," said {F}. [? From then on the {toy} had a crack in the middle and two
owners, and nobody minded.]""",

    "journey": """[ {H} had never seen the sea. "It is bigger than {n} ponds," said {his} {mum}, "and it is never
quiet." So one {day} {H} and {friend} bought two tickets for the train at {hour}:15. [? The train went past fields
and over {num} bridges, and a woman with a goose sat down across from them.] They ate {food} and counted the
[cows|towers|tunnels]. At noon the train came around a bend, and there it was, blue and wide. // "Where does it
end?" asked {F}. // "I do not think it does," said {H}. They took off their shoes and let the waves [chase|tickle]
them. [? {H} filled a bottle with sea water to show to {his} {mum}.] On the way back they were so tired that they
slept all the way, and there was sand in their [pockets|hair|socks].| {H} wanted to know where the river began. "We
could follow it and find out," said {friend}. They packed {num} sandwiches, a rope, and a lantern. // On the first
day the river was wide and slow. On the second day it ran fast between the rocks[?, and they had to climb over
fallen trees]. {F} had sore feet. "[How much farther is it|Are we there yet]?" {F} asked. "Only {n} more bends,"
said {H}, who had no idea. On the third day they found a little hole under a fern, and clear water came out of it.
// "Is that all?" asked {F}. // "Every big thing starts small," said {H}. They drank from the spring, and the water
was [so cold that their teeth hurt|sweet and cold]. [? Then they turned around, because the way home was long.]|
From {his} window, {H} could see a mountain with a white top. "One day I will stand up there," {he} always said.
"Why not today?" asked {friend}. So they put on their boots and left at {hour} o'clock. // They walked through the
woods and across a stony field. An old goat stood in their way. "[Nobody goes up without paying me,|What do you want
up there?|This is my mountain,]" it seemed to say. {H} gave it a piece of bread, and it stepped aside. [? Fog came
down, and they could hardly see their own feet, but they held hands and went on.] // Then they were at the top. The
houses below looked like [crumbs|dice|toys]. "I can see our [street|door]!" said {F}. // "It looks so small," said
{H}, "and yet everyone we know fits into it." They built a little tower of {num} stones and went home for dinner.|
{H} and {friend} found a map in a {c} book. There was a cross on it, and the words "{n} steps from the well." //
"Treasure!" they shouted at the same time. They took a shovel and ran to the [old mill|hill|orchard|big field]. They
counted their steps, and they counted again, because {F} had longer legs. Then they dug[?, first fast and then
slower and slower]. They were hungry and dirty, and they wanted to give up when the shovel hit something hard. // It
was a tin box. Inside lay {num} glass marbles, a [feather|tin soldier|key], and a note. "Well done," it said. "Now
hide something for the next one." // So they did. They [put in|added] a {t} and a drawing of themselves, and then
they closed the box again. [? They never told anyone where it was.]]""",

    "baking": """{H} wanted to bake a {cake} for [the school party|the summer fair|{his} {mum}]. {He} bought some
{need} and washed {his} hands. "How hard can it be?" {he} said. {He} mixed {num} eggs, some butter, and two cups of
flour. [? Most of the flour landed on the floor, and some of it on the cat.] // [ But {H} took salt instead of
sugar. When {he} tasted the first slice, {his} eyes grew wide. "It tastes like the sea!" {he} cried.| But {he}
forgot to look at the clock. When {he} remembered, black smoke was coming out of the oven, and the {cake} was as
hard as a brick.| But when {he} carried it to the window, {he} tripped over {his} own feet. The {cake} [fell|flew]
out of the window and landed in the flowers, and the birds ate it.| But the oven was cold, because nobody had turned
it on. After an hour, the {cake} was still as wet as soup.] // {friend} heard the noise and came in. "Do not cry,"
said {F}. "I will read, and you will stir." [? {F} opened the book at page {n} and read every word twice.] They
started again, and this time they [tasted everything|watched the clock|checked each step]. Soon the whole house
smelled of {need}. // The second {cake} was [golden|round and brown|perfect]. [{His} {mum} ate three
pieces.|Everyone wanted more.|There was not one crumb left.] "[What is your secret|How did you do it]?" asked {his}
{mum}. // "[Two cooks and two tries|Make it wrong once, and then make it with a friend]," said {H}.""",

    "night": """{H} did not like the dark. One night [a strange noise|a soft sound] woke {him}. [Tap, tap,
tap|Scratch, scratch|Creak, creak], it went. {He} pulled the blanket over {his} head. "Who is there?" {he}
whispered, but nobody answered. // [? {H} counted to {n}, but the noise did not stop.] {He} called for {his} {mum},
who came with a [candle|lamp|flashlight]. "Let us go and look at it," {mhe} said. "A fear is always biggest before
you look." They walked along the hall, {num} steps in all, and opened the [door|window]. // [It was only a branch.
The wind was moving it back and forth, and it knocked on the glass.|It was only the cat. It wanted to come in, and
it looked rather offended.|It was only a coat on a chair, and a beetle that was looking for crumbs in its pocket.|It
was only the old clock, which needed a drop of oil.|It was only a moth in the paper lamp, dancing with its own
shadow.] {H} [began to laugh|breathed out]. "I thought it was a [monster|dragon|ghost|giant]," {he} said. "So did
[I|I when I was small]," said {his} {mum}. // [? They opened the curtain and looked at the stars for a while. {H}
found one that was a little brighter than the others, and {he} named it {pet}. //] [Since that night, {H} has had a
small {c} lamp, but {he} hardly ever turns it on.|The next night the noise came back, and {H} said, "Good night to
you, too," and fell asleep.|When {friend} was afraid a week later, {H} knew what to do. "Take my hand," {he} said,
"and let us go and look."]""",

    "gift": """It was almost the birthday of {H}'s {mum}, and {he} had only {cents} cents. {H} went to [the
market|the shop on the corner] and looked at the [cups|scarves|clocks], but everything cost too much. "[What can I
give|How can I buy a present] with {cents} cents?" {he} asked {friend}. // "What does {mhe} like?" asked {F}. {H}
thought about it. "{mHe} likes [quiet mornings|the smell of the forest|to sit by the window|songs from long ago],"
{he} said. // So {H} made the present {himself}. [ {He} painted a small box and filled it with {num} notes. On each
note {he} wrote something nice, such as "I will wash the dishes" or "Your laugh is the best."| {He} gathered moss,
pine cones, and smooth stones, and {he} built a tiny garden in a [bowl|teapot].| {He} learned an old song by heart.
It had {num} verses, and {he} practiced it every day in the shed, where only the spiders heard it.| {He} took an old
chair from the shed, fixed its leg, and painted it [blue|green|yellow|white].] [? It took {num} evenings, and {F}
kept it secret the whole time.] // On the morning of the birthday, {his} {mum} was silent for a long moment. "Do you
not like it?" asked {H}. // "I like it so much that I have no words," said {his} {mum} and hugged {him}. [? Of all
the presents that year, it was the one {mhe} talked about the longest.]""",

    "garden": """One {day}, {H} got a {seed} from {friend}. "It will be a {plant}," said {F}, "if you do not forget
it." {H} put it into the ground [behind the house|next to the gate], gave it some water, and waited. // [? "Is it
there yet?" {he} asked after an hour. "Not yet," said {his} {mum}.] Nothing happened on the first day. Nothing
happened in the first week, either. {H} [told it stories|sang to it|put up a sign with its name, {pet}]. [? A snail
came by in the night, so {H} made a ring of sand around the spot.] On day {n}, there was a tiny green tip. "It is
awake!" {he} shouted. // All summer it grew. First it was as tall as a [cup|shoe], then it was as tall as {H}, and
in the end {he} [had to climb on a chair to see the top|could sit in its shadow]. // "What did you do?" asked [the
neighbors|everyone on the road]. // "[I gave it water, and it did the rest|I waited, and that was the hardest
part]," said {H}. [? In the fall {he} kept {num} new {seed}s in an envelope, and {he} gave the first one to {F}.]""",

    "learning": """{H} could not {skill}, and all {his} friends could. "[I will never learn it|I am no good at it],"
{he} said. // "How often have you tried?" asked {friend}. // "{Num} times," said {H}. // "I needed {n}," said {F}[?
with a shrug]. "[Try again|Come, I will show you]." So they practiced every [evening|afternoon]. On Monday {H} [fell
on {his} back|gave up after a minute|did not get far]. On Tuesday {he} fell on {his} nose[?, which was worse]. On
Wednesday {he} wanted to go home. "[Just once more|One more time]," said {F}. "Do not think about your feet. Think
about [breakfast|the moon|a song]." // On [Thursday|Friday| the last day of the month] it happened. "I can do it!"
shouted {H}. "Look at me!" {He} was so surprised that {he} forgot to stop and went straight into a bush. // {F}
clapped, and {H} laughed with leaves in {his} hair. "[Who is next|What will we learn now]?" {he} asked. [? {His}
{mum}, who had watched them, said, "I have always wanted to learn it, too."]""",

    "trade": """One {day}, {H} went to the market with a {c} {t}[? in {his} bag]. A [farmer|sailor|girl] saw it and
said, "I will give you {num} eggs for it." {H} [nodded|agreed]. [? A little farther on, a woman was crying because
there were no eggs for her soup, so {H} gave her the eggs and got a big spoon.] Then {he} met a boy who had lost his
cap. The boy had a rope, and {H} knew how to make a cap out of paper, so they traded. // Behind the last stall, a
{fkind} named {F} stood next to a {mount} that did not want to move. "It is too big to push, and I have no rope,"
said {F}. // "I have one!" said {H}. They tied the rope around its neck, and {H} showed it a carrot. It walked at
once. // "How can I thank you?" asked {F}. "[You could come and play|Be my friend]," said {H}. In the evening {his}
{mum} asked, "What did you get for your {t}?" // ["A friend," said {H}.|"A friend," said {H}, "and a ride on a
{mount}."] "That was a good trade," said {his} {mum}.""",

    "letter": """{Hfriend} had moved to a town that was {n} miles away, and {H} missed {fhim}. One {day}, [a letter
came|the mailman brought a letter]. // "Dear {H}," it said, "my new room is [blue|small|under the roof], and I can
see [a river|{num} chimneys|the harbor] from my bed. The school is [big|loud], and I do not know anyone yet. Do you
still {hobby} every day? Please write soon. Yours, {F}." // {H} read the letter {num} times. Then {he} took a pen.
// "Dear {F}," {he} wrote, "on my first day at school I did not know anyone, either. Then someone asked me for [an
eraser|a pencil|half of my apple]. That was you. So ask somebody for something. Your {t} is still here, and I am
taking good care of it. Yours, {H}." // [? {He} put a [pressed flower|leaf|drawing] into the envelope and ran to the
mailbox.] [Two|Three] weeks later the answer came. It was very short. "It worked," wrote {F}. "I asked [a girl|a
boy] for a ruler, and now we are a team." """,
}

SHORT = [  # stories of a few sentences
    """{H} put {num} stones on the windowsill. "Why do you do that?" asked {his} {mum}. "They are cold," said {H},
"and the sun is on this side." In the evening the stones were warm. {H} put one in each pocket and went to bed.""",
    """On a rainy {day}, {H} counted the drops on the window. {He} got to {n}, and then two drops ran together. "Is
that one less?" {he} asked. {His} {mum} smiled. "It is one that is bigger," {mhe} said.""",
    """{H} asked {friend} for a secret. "If I tell you, it is not a secret anymore," said {F}. "Then tell me half of
it," said {H}. {F} thought for a while. "There is a {cake}," {fhe} whispered. They both looked at the kitchen door.""",
    """A {c} {t} stood in the window of the shop at number {n}. {H} looked at it every [day|week]. One {day} it was
gone, and {he} was sad until {his} birthday, when {his} {mum} gave {him} a box of just the right size.""",
    """"Can you hurry up?" asked {F}. "Can you slow down?" asked {H}. So one of them walked a little faster, and the
other walked a little slower, and they came to {pl} at the same time, at {hour}:30 on a [sunny|foggy|windy] morning.""",
    """{H} saw a {beast} on the gate, and {he} stood still. The {beast} stood still, too. They looked at each other
for {num} minutes. Then the {beast} left, and {H} ran home to tell {his} {mum} that somebody had come to visit.""",
    """The moon was so round that {H} could not sleep. {He} opened the window and said good night to it {num} times.
"Who are you talking to?" asked {his} {mum}. "[To someone who is awake|To the moon]," said {H}. "It has nobody
else." """,
    """{H} lent {F} a {c} {t}, and {F} lent {H} a book of {n} pages. When it was time to give them back, each of
them liked the other thing better, so they agreed to wait a little longer, perhaps until they were old.""",
    """At {hour} o'clock it was {num} degrees below zero, and {H} wanted to stay in bed. "There are pancakes!"
called {his} {mum}. "How many?" asked {H}. "{Num}," said {his} {mum}. {H} was at the table before the clock had
finished striking.""",
    """{H} found a {c} feather on the path. "Whose is it?" {he} asked a {beast}, but the {beast} only looked at
{him}. {He} asked the wind, and the wind took the feather out of {his} hand. It flew over the fence, over the road,
and over {num} roofs. "Now I know," said {H}. "It belongs to the sky." """,
    """{Hfriend} had a new {t}, and {H} did not. All day {H} said that it was too big, too new, and too
[red|blue|bright]. "Would you like to hold it?" asked {F} in the evening. {H} held it for a long time. "It is not so
bad," {he} said, and {he} gave it back with a smile.""",
    """{H} and {friend} built a bridge over the ditch. They used {num} boards, {n} nails, and a door that nobody
needed. "Who will go first?" asked {F}. They looked at each other, took a deep breath, and went together. The bridge
groaned, but it held. A week later even the mailman used it, although there was a real bridge at the end of the
road.""",
    """Every night at {hour} o'clock, a train passed {H}'s window. {He} waved to it with a lamp, although nobody
ever waved back. One night it was late, and it went slowly. In the last window stood a [small|tall|sleepy] boy with
a lamp in his hand, and he waved until the train was gone.""",
    """"I am going to be a pirate," said {H}. {He} put on a {c} hat and sailed across the kitchen to an island that
was {num} tiles away. There was treasure on it: {food}. "Pirates wash their hands first," said {his} {mum}. {H}
sailed to the sink and back, and then {he} ate it all.""",
    """{H} made a list of everything that {he} was afraid of. It had {num} lines. There were [spiders|geese|owls] on
it, and thunder, and the cellar, and page {n} of a certain book. {He} gave it to {friend}, who read it slowly. "You
can cross out the last one," said {F}. "I have read that page, and it ends well." {H} laughed and took the pen.""",
    """{H} sat next to {F} on the bus for {n} days, and they never spoke. Then the bus stopped in the snow, and the
driver said that it would take a while. {F} opened a bag and gave {H} half of {fhis} sandwich. "Cheese," said {F}.
"I like cheese," said {H}. After that, the ride was always too short.""",
    """A {beast} had moved into the mailbox, so {H} put up a sign: "Please do not disturb. Letters go into the
boot." For {num} weeks the mailman put the letters into an old boot beside the gate. When the {beast} moved out, it
left a great mess. "It never said thank you," said {friend}. "It stayed," said {H}. "That is the same.\"""",
    """{H}'s {mum} had lost {mhis} glasses. {H} looked on the table, {friend} looked under it, and the dog looked
hungry. "Where did you see them last?" asked {H}. "I cannot see anything without them," said {his} {mum}. Then
everybody began to laugh at once, because the glasses were on top of {mhis} head.""",
    """{H} planted a coin in the garden and gave it water for {num} days. "What are you doing?" asked {friend}. "I
am growing money," said {H}. The next morning there was a small plant with round silver leaves, and nobody knew
where it had come from. "Well," said {H}, "it is a start." """,
    """It was {H}'s turn to tell a story at school, and {his} heart beat fast. "Once," {he} began, and then {he}
forgot the rest. Nobody laughed. "What happened next?" asked {friend}. "I do not know," said {H}. "Then let us find
out," said {F}, and everyone in the class added a sentence. In the end the story had {n} sentences, and the first
word was the best one.""",
    """{H} made {num} paper boats and put a wish into each of them. {He} set them on the river and watched them go.
The first one sank at once, but the rest sailed under the bridge and were gone. Many weeks later, a letter came from
a town by the sea. "I found your boat," it said, "and I have the same wish. Yours, {F}." """,
]


def _parse(template):
    """Template -> nested lists: str, ("var", name), ("choice", [parts, ...]), ("maybe", parts)."""
    tokens = iter(re.findall(r"\[\?|[\[\]|]|\{\w+\}|[^\[\]|{}]+", " ".join(template.split())))

    def branches():
        found = [[]]
        for token in tokens:
            if token == "]":
                break
            if token == "|":
                found.append([])
            elif token == "[?":
                found[-1].append(("maybe", branches()[0]))
            elif token == "[":
                found[-1].append(("choice", branches()))
            else:
                found[-1].append(("var", token[1:-1]) if token[0] == "{" else token)
        return found

    return branches()[0]


OPEN_PARTS = _parse(OPEN)
PLOT_PARTS = {name: _parse(template) for name, template in PLOTS.items()}
SHORT_PARTS = [_parse(template) for template in SHORT]


def _pick(rng, items):
    return items[int(rng.random() * len(items))]  # rng.choice is not promised to stay the same


def _expand(parts, values, rng, detail):
    out = []
    for part in parts:
        if isinstance(part, str):
            out.append(part)
        elif part[0] == "choice":
            out.append(_expand(_pick(rng, part[1]), values, rng, detail))
        elif part[0] == "maybe":
            if rng.random() < detail:
                out.append(_expand(part[1], values, rng, detail))
        elif part[1].lower() in ("n", "num"):  # a new number each time
            number = _pick(rng, LISTS[part[1].lower()])
            out.append(number.capitalize() if part[1] == "Num" else number)
        else:
            out.append(values[part[1]])
    return "".join(out)


def _person(rng, animals):
    """Kind and name, with the four pronouns of the name's gender."""
    gender = _pick(rng, "fm")
    kind = _pick(rng, ANIMALS) if animals else {"f": "girl", "m": "boy"}[gender]
    return kind, _pick(rng, {"f": GIRLS, "m": BOYS}[gender]), PRONOUNS[gender]


def _story(rng):
    """One story and nothing checked about it; about 0.1 ms."""
    values = {name: _pick(rng, items) for name, items in LISTS.items()}
    for names, rows in TUPLES.items():
        values.update(zip(names.split(), _pick(rng, rows)))
    plot = _pick(rng, [*PLOTS, *["short"] * 8])
    animals = plot != "animal" and rng.random() < 0.3  # a mouse does not nurse an owl
    kind, name, (he, him, his, himself) = _person(rng, animals)
    fkind, fname, (fhe, fhim, fhis, _) = _person(rng, animals)
    while fname[0] == name[0]:  # two names that are easy to tell apart
        fkind, fname, (fhe, fhim, fhis, _) = _person(rng, animals)
    gender = _pick(rng, "fm")
    mhe, mhim, mhis, _ = PRONOUNS[gender]
    values.update(H=name, kind=kind, he=he, him=him, his=his, himself=himself, He=he.capitalize(), His=his.capitalize(),
                  F=fname, fkind=fkind, fhe=fhe, fhim=fhim, fhis=fhis, fadj=_pick(rng, LISTS["adj"]),
                  mum=_pick(rng, {"f": WOMEN, "m": MEN}[gender]), mhe=mhe, mHe=mhe.capitalize(), mhim=mhim, mhis=mhis)
    friends = [f"{his} {word} {fname}" for word in ("friend", "best friend", "neighbor", "cousin")]
    values["friend"] = _pick(rng, friends + [f"{fname} the {fkind}"] * 4 * animals)
    values["Hfriend"] = values["friend"].replace(f"{his} ", f"{name}'s ")  # opens a story: the name before the pronoun
    detail = _pick(rng, (0.0, 0.0, 0.2, 0.5, 0.9))
    values["home"] = _expand(_parse(_pick(rng, HOMES["animal" if animals else "child"])), values, rng, detail)
    if plot == "short":
        parts = _pick(rng, SHORT_PARTS)
    else:
        parts = (OPEN_PARTS if rng.random() < 0.6 else []) + PLOT_PARTS[plot]
    text = " ".join(_expand(parts, values, rng, detail).split())

    text = re.sub(r"\b([Aa]) (?=[aeiou]|hour|honest)(?!one\b|uni|use)", r"\1n ", text)
    paragraphs = [part.strip() for part in text.split("//") if part.strip()]
    text = "\n".join(re.sub(r"(^|[.!?] )([a-z])", lambda m: m[1] + m[2].upper(), part) for part in paragraphs)
    if rng.random() < 0.2:  # as a printed book has them
        text = re.sub(r'"([^"]*)"', "\u201c\\1\u201d", text).replace("'", "\u2019")
    return text


def stories(split="train", n=None, seed=0):
    """`n` different stories of the split "train" (default 8,000) or "validation" (500); a newline ends a paragraph."""
    if split not in SIZES:
        raise ValueError(f"split must be one of {', '.join(SIZES)}, not {split!r}")
    n = SIZES[split] if n is None else n
    if n < 0:
        raise ValueError(f"n must not be negative, but is {n}")
    rng, found = Random(f"wheeler stories {seed}"), {}
    while len(found) < n:
        text = _story(rng)
        held_out = zlib.crc32(text.encode()) % 8 == 0
        if held_out == (split == "validation") and len(text.split()) in WORDS:
            found[text] = None  # a dict keeps the order and drops what was there before
    return list(found)


def main(argv=None):
    parser = argparse.ArgumentParser(description="Print stories of the embedded corpus.")
    parser.add_argument("--split", choices=SIZES, default="train")
    parser.add_argument("-n", type=int, default=3, help="how many stories")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        print("\n\n".join(stories(args.split, args.n, args.seed)))
    except ValueError as error:
        print(f"sample_corpus.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
