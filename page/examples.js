const EXAMPLES = {
 "weights": "f063907ffb951ac3",
 "stories": [
  {
   "title": "The bear and the moon",
   "text": "There was a little bear who could not sleep. He looked at the moon and asked, \"Are you tired too?\" The moon smiled and said, \"I have to watch the stars.\" So the bear watched the stars with the moon, and soon he was fast asleep.",
   "frame": "SUlJSUlJSUmUopKilKKkoiEVRQhKCUkRSEoqRSFSIkSipJSSlKSIkEQJSShKChIqEVQSURVRSUWkoqSkoqSkkklJSUlJSUlJopKkpJKklJRQKElJSUopKSVREhIiFVRUkoSIpIigooBFKSVKJQoJKipSUBFIVUJBlKSipJKilJRJSUlJSUlJSZKUpJSipKKSRSoSSUhREEUSVUUSFQRFIqiqkIiKqJKIUlBKJCUSJREJJRFRSkVSRKKSpKKkoqSSSUlJSUlJSUmipKKkopKkklUSFBIFRVEkIklJSVAiJFGIpJSUioiSqiVKSUkkUklRUBEkFEkJJASipJKilKKSoklJSUlJSUlJkiQkpJQipJJIkopRKokKRBUlJSKQJFShopBKSSVQqkhJKhSUUCpEkhJUqSkqlRFJqSoUlEUiQqJEkUlBEokJSZEkoqqJRCIkSpFIRCSQlIohKJERSSopIYRSRCqSkJKEUgSogSVFJVEkogIUiIhSiIkIUUlSIiQiIkUkkoVUiUmIkJIpKKESEiFCSQJSCkipRIikVIRUkVSRIhICKSlEIipESKiSUgiIRREVVCiEoiWQJECpUSEJCiKKCkKkiEJViUClEBEikQgiFAqFSIlEolSJUSKSIikJoSKESEkIklQKRCiVIkVEgVURUihIkCoqoqSkkqIilJQ"
  },
  {
   "title": "The bird who would not fly",
   "text": "A small bird sat in a tall tree. She was afraid to fly. \"Come on, you can do it!\" said her friend the squirrel. The bird closed her eyes and jumped. She spread her wings and flew over the whole forest. From that day on, she was never afraid again.",
   "frame": "SUlJSUlJSUmUlJKSoqSUpCFCSChIUiERSAkRVSUpSESipKSgkoSiiERJCkpFUgkiESJBJSglREWklJSSkpKSkklJSUlJSUlJopSUoqSkkqIVKUoQCVIpVEpEJUVCBVIhlJKSopSgpIhJRSRISUoKIiIqSRESIUVRlJSSpKSUkqRJSUlJSUlJSaSSpKKSpJKiEkRKSEVSKFFJKSElEilFBJSSlIqElJCqKSkqRSkqSkVURFEQVFEREKKSpKKipKSiSUlJSUlJSUmSpJKklKSilCVJRVIqUQhJUhIoKUEkUSKohIKUlJKkkFUqVCIiKRJFKEUpSUlSSRCSkpSikqSSoklJSUlJSUlJpKKiJJISJKRKSUiKKKSJChUUlCVVSkJRokohSKiUkSQJFUiSUipEklJIkikIVREpqRIlBKUqpIRSJFBSSoVSUaSJIokUEiUESSKJIoFIkKEUhSKRKBUiSoFShESSqEkQKAkRCUUSkkVSokIkCEUkiokEiIiiKIkkJFEhElSSUoqJBJRJCUSFFCIhQiQiKihJRIqokpCVEiSSVVVJJSBIiESoqhJKiqJCCQIAqSBEBJGiVVQElRFRREUggVEgpCoSkEooCkpKhIgqkEKkoRVRIlQlFQpUIAhJoUggQQqKohJKkoqUpBEUqBFFISpJREpRpKKUlJSSpKQ"
  },
  {
   "title": "The shiny key",
   "text": "One day a frog found a shiny key by the pond. He showed it to the fish. \"What does it open?\" asked the fish. They looked everywhere. In the end they found an old chest in the mud. Inside was a mirror, and they both laughed at their funny faces.",
   "frame": "SUlJSUlJSUmUoqKkkqKikiEVCVJFSFQkSEJECQoVKVGiqJKkoKqSqERCKUoUFCVSERVEFUlJUimkopKikqKkkklJSUlJSUlJoqSilKKUoqIVEgQhECpEBUJJUUhFURFSiKKEopKkiKgiSCFRKQoiRUkRSiRCQVUQkqSUkpSUoqJJSUlJSUlJSaSikpKipKSiCQQlJUlRClVEUVBSEgRRKpCkoqSkoKSUQlJIClFKCSkJKSFVKhFSVKKSlKKUpKSiSUlJSUlJSUmilKKUpJKiklEpRCpKJVElJFIRRSVSJEqQhKiSkKSKkCoiUiUiERVFRUkpUklEShCSopKklJKkoklJSUlJSUlJohIiJBKUIhJIqIiSiCCUqBQFVUklCkoBqVCqkohEpVRUigElQpISoiokVFCQJURJgJEqqkUQESJVRJVUiEKqVaiRSiIiqFCoUiSQiFVFBVIFUSUhAJIqiaAoiEQqJJQiSoIiEJSRIQkUEEiiKiSIQolFJUiREkIQIhJIkkREkIWQhRJEoQlEIEUqhKpKIglKEoEhRJCIpJGkVEqSJEQKRAkCoEkJEVChUilFEkKiJQiklBApEUiQQkoqqoSkoioVoVBBUUpVRIhEBRSolQoRIhKgoRIgIIKJpQoKSIqEKCIQQFChQVEBFUqVJVSUBFRIlCKSoiKioqI"
  },
  {
   "title": "A cake for grandma",
   "text": "Anna wanted to bake a cake for her grandma. She mixed the eggs, the flour and the sugar. The cake was too hot, and the bottom was black. Anna started to cry. But grandma ate a big piece and said, \"This is the best cake I have ever had.\"",
   "frame": "SUlJSUlJSUmUkqKUlKSkkiFFCCkpUVElSCpRRFQiIkqilKSSqoiIlEQqUUQVUVEiEVUEKUoEJEmkoqKUpKKSkklJSUlJSUlJkqSSpKSkopJFUSRJUUlFSQoESRIkJBAUoKikhJKSoopEEhIiJUkJIBFJSUlKElJVpKKilJSkpKJJSUlJSUlJSaKilJKSpKKkEVVJJURRCFFEKhJSCQJRKKqUpKiiqKSSBCkRVVBUEiVRVEoqJSlJSKKilJSSlJKSSUlJSUlJSUmikpKkkpSikgklRFFJQRFFRFIpIiQKRBCQiISIiKCggiIhEVQiFAooSVRKKUlJUUWkopSSkpKkkklJSUlJSUlJkiSSlBKUlCIoikkqpSlIhVIQopVQkqISpUQEKKooBUgQqVFSUUFSEkpCqqiklCilpRVVQlIqlRJKqKqUqJRKSaVSRClFKSCiECSREhJUhEhCikREpQJRJYlRCSkKKKRKJIQiVFCSERFKKpEqBUhCJKCEJISgESiSVREKUkqkUSmgQkElJEiEggopFEqJIiIUQIRAlSKQSUmVEKooRSUUpCpKAFISkqoKQRBVBKUoEEWURQiiSEVFEiEoogiikqoliEIFRBRJEJBCEVIRSRJFKhCEqKgUhIiBhSlRQoohIhQqUoSVIIhISlEJKShFUqEVpKSSkpKkFKI"
  },
  {
   "title": "The paper boat",
   "text": "Once upon a time, there was a little girl named Lily. She had a small boat made of paper. One day she put it on the river, and it sailed away. Lily was sad. But the next morning a duck brought it back. \"Thank you, duck!\" said Lily.",
   "frame": "SUlJSUlJSUmUkqKiopKkpCEkBVRVJUoRSFFSISBSJUqiqqiIiqiIpEQVURJRQiJKEUokSSQVSRGklJKikqKUpElJSUlJSUlJpKSilKSikqRJEUkiERVFURRCFElCQhIigKiikqiIpIgqAQkkQiQSJUVUQkkVUUVSkqKUlKKkoqRJSUlJSUlJSZKUopKUkqKUJSFIRUFFSElKShUgKAolJJCQgoqCpJCIRSUpJBRKShIoSkRJSSUlSZKUkqKkkpKSSUlJSUlJSUmSkqKUpJKUoiQkUEoJKUJQSVElEVJSKSWUpIqEpISEikpKFSkSKlJVISFKVEVRJQqUlJSikqSSpElJSUlJSUlJlKIklJKiFKQqUIoqJFSKUUUkVUVJIiUqkpEikpRISlBJKkhFQqUlBRKVISgoSkgoiCqUkpUkopIlFUIpIlIIKYhKKEJJKEFCIhCREKJRFBFQhEQkFSSApKUpIpFKSipISEJISKURBRIiFKEiEiRShYShVEVIiiUqUQgKEhREklGqUqSkiRFFJAUoUgoiJCJRUpElVESIiSSIREghEVJCkiUhEoiIhJEoUoilIiIpRJWlUgpElUSJQkqkUREgEiKppVEkgkqkiEISAlEpEFFFEEioiJKFCJCFoQQiRCoiIiJEUUSpUIiJCBIIEUSlQkRBpKKkkhKUkpQ"
  },
  {
   "title": "The train at eight",
   "text": "Every night at 8 o’clock, a train passed Inés’s window. She waved to it with a lamp, although nobody ever waved back. One night it was late, and it went slowly. In the last window stood a tall boy with a lamp in his hand, and he waved until the train was gone.",
   "frame": "SUlJSUlJSUmUkqKilJKUoiFFSFAqJCoQSCghBVFRRUWikpSohKSSikRIQgIqSiUkERUpVUUVSlGkopKikqKkoklJSUlJSUlJkqKSkqKkpKQkSSgpBUpSElEURVJSESVFhKKQhIiEiKopSEIhJSJSUFIlCUhISQUlpJKioqKiopJJSUlJSUlJSZSSlJKipJKSSiVBSUVKSEkhSAgUEBUlFISSoqqiqoqqUilQEAkURBEJUiVFQkkRRKSkkqKUlKKiSUlJSUlJSUmilJKUkqKUkglCSSJFECooVAkiSSpFRUWqpISilIqQklRREkgiJUpECQRFJUlQJRGiopKSoqKSpElJSUlJSUlJkhKiopKUEpIoqUQIKUqFKUUSkVVSlCpEkkkkiKlJVRBFEpEiApKqSigpRJVUKUChgoSRSilSlFRREUKkkqkpKaRKqEkoEoJUUSQVEpVFVKkkSUiJIJCpQookIiKKQlKUJJKIlSUpBSlKJSRIUpIqkpSKURIERJEoQiUipKEiJFWoUEhSSklIilEKpSkhEpIlBKUKhFRERIipSEQSoikiUlKSkUVIkkikBURCKpUlFUmoCSiEKIqiIkKkURECFQiRkBIERFVCRUQlSKERAiiQEkqUCIiogkqJoCFSIgEQoSRVCiSJVEREUghEiVQIqREpopIioqISopQ"
  },
  {
   "title": "Six wishes",
   "text": "Elsie made six paper boats and put a wish into each of them. She set them on the river and watched them go. The first one sank at once, but the rest sailed under the bridge and were gone. Many weeks later, a letter came from a town by the sea. \"I found your boat,\" it said, \"and I have the same wish. Yours, Carl.\"",
   "frame": "SUlJSUlJSUmUlKSSlKSklCFJUUhKUVFJSBIEESEiCCKiqKKklIiihEQRSAlBVAlREUQhVCgJUgqkkpSikqKkpElJSUlJSUlJkpSUoqSkpKRFSUpICUoSURAiJSFEIUUiqpCSlJKUqohVREUhKUIRIQopKkpUCURUpJKUpKKkoqJJSUlJSUlJSZSkpKKUopKiSRESFUpIKFAURElAIRFVJaKSlKqUpKqKCCkpFSJSRUVRVFJKSSkSEqSipKSUkqSkSUlJSUlJSUmkpJSkpJSkogpSKRJJKUlVVSlSSRJUIiKIkqiSpKiEiCJEEkVRAlJVUQlFKgpVBQikoqKUpKKioklJSUlJSUlJpKSSpCKkIpJKCSkQiVKQSRFSREoihUUUpCURJEkiqEpKikRJEkhSFRFUoKIopSiipIEKSJEKgkhJKEUiJFEVFaRCkElKpEqgSpVCEpVKlQoUIKilSBRIUalKEVKiqSKEQqVEpQREVSkRSKoSUREqUqSiFUUIQpUIUhFKEqKJQiGlRJSFESSIhBISKiBEUiJSRKkEiiqlRSmpUlFElEiQklKoopEpIkooJBVISIJQpRGJQhUSVSVKRESIikSqkiSKkiUkoRVIkSBFUJEIQJVIRRCCJEIKQhKSqiiKlKEopUgRRUUhRIVQpEQQkoiSUopRkqIkEiSkJKQ"
  },
  {
   "title": "The red feather",
   "text": "Daisy found a red feather on the path. \"Whose is it?\" she asked a robin, but the robin only looked at her. She asked the wind, and the wind took the feather out of her hand. It flew over the fence, over the road, and over seven roofs. \"Now I know,\" said Daisy. \"It belongs to the sky.\"",
   "frame": "SUlJSUlJSUmUlJKiopKioiFJKQhQSRFJSCRCVQUkRBKikpSoooqiqEQkKVJIVElFEUlUBRUpEhCkoqKiopKkoklJSUlJSUlJpJKSoqKSpKRSRUhRFUUKUSUqFQRKCFUEiISKqpSiqKoiEiUFKgkSVUlFSFBVQkUKlJKioqKUoqRJSUlJSUlJSZSipKSUpKSiKVQKSUlREglSKUEUFAhJUqSSlIqCoqKoSSkqJSgUVQUiRFVKQUkoUJSSoqSUpJKiSUlJSUlJSUmUoqSilKSilCkIUQVBERAiUlUCUCpCRUmIqqiqkIiopCVVEkUkIlJJUgpJEFFJKSSkpKSipJKSkklJSUlJSUlJkhQiJCKioqQoioiIiVVISUIkIVIiqqUSlQlEKIgFEiRCQhCFRVJEiiiUilCQKKklhSEgikqSREhSilUhIEkSoqQlKESVJClECVKSESCQkhJSJESqikpIpaiRCUQVESRIUkSkkUpEUSIpKkpClQqKVYRFFSkopCUqUhKilIJJEIWkiEhJEJRKEBElISJEKSVCQpKUiKFUSCmJJUoiSiISkiSQJJCgiIgkSUKKREUVIRGSqUSREEJUSCkSEUSiqIkShEiICUgSJCQSESKkoUhKkUSkhApUlRAkoUkRUKlIRUhKkkqFVBIKohFIkSqKqKVJpJIklCQUEqQ"
  },
  {
   "title": "The lost glasses",
   "text": "Inés's big brother had lost his glasses. Inés looked on the table, her friend Hanna looked under it, and the dog looked hungry. \"Where did you see them last?\" asked Inés. \"I cannot see anything without them,\" said her big brother. Then everybody began to laugh at once, because the glasses were on top of his head.",
   "frame": "SUlJSUlJSUmUkpKikqSSkiFFSUlEESlESCAkJBFCQimiipKIiqiQhEREJSIkBCURERFISUlRSEqkpKKkkqKipElJSUlJSUlJopSkkqKUpJRISQopFUoSQSESQVJAEUUqhKiUhKqEqJBSFEIhBSlCRQlJCUhQRBESopSikqKSpKRJSUlJSUlJSZSipKKSoqSiQRUKCUlEUUkqSkVSFBEkJJSUkKigpIqSSUJKQgpSQUgSKRUVQSUUJaSSoqKUkqKSSUlJSUlJSUmkpKKklKKikglRFBJBSVAlVCpJSSoSJUqqkKSSkKSSkARECkgkEkREURFFJUlFKRGipJKSkqKUoklJSUlJSUlJkhSkkqKSpBQkqVIoVUhSoUpEKREgFSVKkRCURIqKUhBESkkqJSEohBIUkpFKRJUppKFIJBERKIJJChVIpEpSVZJUiqJRJSiiJSIkCQpIUkhQSVFEoKKlIaqUJJJVRQiEVEqSSKqSUlIJJUklVCSohaSSokipClQoUkRFEhJEqRKEiRJFSRIUSCEihKCiJUkSSkkiShCQlEWkpEilRCpCqkkJElKhUIlFJEJIpQolIhKJFRJKQJKUiCSqiJSVRCkhklAiKkipQkRFJQkFEhKVERCSVFJIRSCqqiUApSEoSlBEUqoIVEKUhREJUVIKESoooqSkpKSklJI"
  },
  {
   "title": "Warm stones",
   "text": "Freya put eleven stones on the windowsill. \"Why do you do that?\" asked her big brother. \"They are cold,\" said Freya, \"and the sun is on this side.\" In the evening the stones were warm. Freya put one in each pocket and went to bed.",
   "frame": "SUlJSUlJSUmUpKKklKSklCFSEVEhEkpBSCVEBEpFFSqiipKqpJCglEQRJVVSSgpKEURICiUlRRGkkpKkkpKSpElJSUlJSUlJkqSUpKKSoqQoESkRFUQVEUFCQkJICUpKlIiUqJKilJAqJEFBKREhRUFRChRSREgKlKKkoqSikqRJSUlJSUlJSaKSkpSiopKkSCUoIhVVKFIlUkFJQABFJZKolJSqqpKKSVUqSkQBRFAUKlElEVQJBaKUpJKioqKiSUlJSUlJSUmUlKKUlJSipClKFCFCIUVJUhVJSClKECKoqKKSgqSqiBISEERUSkVSRUlFKSklEgWilJKSlJKkoklJSUlJSUlJpKSUopSUkqRREUIVSiIpSgRKiECkiUSRqiElCgkUEkRElJKlUkilERFJJVKpEhCEhBRShVJIQiooqIUqqRUolZICKkREipEiJVBRERIlJIlKpSQkRQqJFKRKkoqoVUJCUREpVVKClKgqRFKoKShBVZUSKFKUlSqCQKiRCCIoRSmqFEQhCUKQkhBJCoRCEEJERSShEhSlKSGSUlRIggpUSEklCSEoQQIiFJCihIEUKJWKQgVRVIqRSiUoUoqqIEQVklEJJVEVKqhEhCKKBECVAgoikUCqikhVpUlElAEhIiISpJFJVESIiEVKJCQokUJVopSSkpIklKI"
  }
 ]
};
