/** The panels' texts in the user's language: locales/LANGUAGE/main.json has them under the English text in the code. */
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

let translated = {};

/** A text in the user's language, with values put in the place of {their names}. */
export function say(text, values = {}) {
  return (translated[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

app.registerExtension({
  name: "makeanything.texts",

  /** Before any node is made. */
  async init() {
    const language = app.extensionManager.setting.get("Comfy.Locale");
    if (language === "en") return;
    try {
      const answer = await api.fetchApi("/i18n");
      translated = (await answer.json())[language]?.makeanything ?? {};
    } catch (error) {
      console.warn("MakeAnything: the translations can't be read; the panels are in English.", error);
    }
  },
});
