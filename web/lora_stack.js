/** LoRA Stack: rows to add, move, remove and switch, with the trigger words of their files.
 *
 * The values stay in the node's own widgets, five rows of them; this shows the rows in use and one to add to.
 */
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { addPanel } from "./panel.js";
import { addStyles, after, element, nodesIn, set, widget, wired } from "./shared.js";
import { say } from "./texts.js";

const NODE = "MakeAnythingLoraStack";
const ROWS = [1, 2, 3, 4, 5];
const EMPTY = { on: true, lora: "none", model: 1, clip: 1 };
const FIELDS = Object.keys(EMPTY);
const ROW_HEIGHT = 48;

const STYLES = `
.makeanything-loras { overflow: hidden; font-size: 12px; color: var(--input-text); }
.makeanything-loras [role=group] {
  display: grid; grid-template: 24px 20px / 20px 1fr repeat(3, 22px); gap: 0 4px; align-items: center;
  height: ${ROW_HEIGHT}px; box-sizing: border-box; padding: 2px 0;
}
.makeanything-loras [role=group] + [role=group] { border-top: 1px solid var(--border-color); }
.makeanything-loras [hidden] { display: none; }
.makeanything-loras .off .name, .makeanything-loras .off .line { opacity: 0.5; }
.makeanything-loras .name, .makeanything-loras .line { overflow: hidden; text-overflow: ellipsis; white-space: pre; }
.makeanything-loras button {
  height: 20px; padding: 0; border: 0; border-radius: 4px; font: inherit; cursor: pointer;
  color: inherit; background: var(--comfy-input-bg);
}
.makeanything-loras .box { width: 18px; height: 18px; border: 1px solid var(--border-color); }
.makeanything-loras button:disabled { opacity: 0.5; cursor: default; }
.makeanything-loras .line { grid-column: 2 / -1; padding: 0 6px; text-align: left; }
.makeanything-loras .line:disabled { padding: 0; opacity: 1; background: none; color: color-mix(in srgb, var(--descrip-text), var(--input-text)); }
.makeanything-loras .problem .name, .makeanything-loras .problem .line:disabled { color: var(--error-text); }
`;

const field = (node, row, name) => widget(node, `${name}_${row}`);
const isWired = (node, row) => FIELDS.some((name) => wired(node, `${name}_${row}`));
const isUsed = (node, row) => isWired(node, row) || field(node, row, "lora").value !== EMPTY.lora;
const usedRows = (node) => ROWS.filter((row) => isUsed(node, row));

const read = (node) =>
  ROWS.map((row) => Object.fromEntries(FIELDS.map((name) => [name, field(node, row, name).value])));

/** Writes the values of all rows, as one step of undo. */
function write(node, rows) {
  app.canvas.emitBeforeChange();
  for (const row of ROWS)
    for (const name of FIELDS)
      if (field(node, row, name).value !== rows[row - 1][name]) set(node, field(node, row, name), rows[row - 1][name]);
  app.canvas.emitAfterChange();
}

/** Exchanges a row with the next used one before (-1) or after it (1). */
function move(node, row, step) {
  const rows = read(node);
  const used = usedRows(node);
  const other = used[used.indexOf(row) + step];
  [rows[row - 1], rows[other - 1]] = [rows[other - 1], rows[row - 1]];
  write(node, rows);
}

const remove = (node, row) => write(node, [...read(node).toSpliced(row - 1, 1), EMPTY]);

function toggle(node, row) {
  const rows = read(node);
  rows[row - 1].on = !rows[row - 1].on;
  write(node, rows);
}

/** File -> promise of what the server says about it. */
const answers = new Map();

/** {trigger_words: [...]} or {error: text} for a file. */
function ask(file) {
  if (!answers.has(file)) answers.set(file, fetchWords(file));
  return answers.get(file);
}

async function fetchWords(file) {
  try {
    const answer = await api.fetchApi(`/makeanything/lora?name=${encodeURIComponent(file)}`, { cache: "no-store" });
    return await answer.json();
  } catch {
    return { error: say("the trigger words can't be read") };
  }
}

/** {words} of a row's file to copy, or a {note} or {problem} in their place. */
async function details(node, row) {
  const lora = field(node, row, "lora");
  if (wired(node, lora.name)) return { note: say("chosen by a wire") };
  if (!lora.options.values.includes(lora.value)) return { problem: say("missing from the loras folder") };
  const { trigger_words: words, error } = await ask(lora.value);
  if (!words) return { problem: error };
  return words.length ? { words: words.join(", ") } : { note: say("no trigger words") };
}

/** Puts a text into the clipboard, if need be through a field in `place`. */
async function copy(text, place) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages without HTTPS have no clipboard.
    const area = element("textarea", { value: text });
    place.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

const button = (textContent, title, onclick) =>
  element("button", { type: "button", textContent, title, ariaLabel: title, onclick });

/** The view of a row; `show` brings it up to date. */
function createRow(node, row) {
  // Not a checkbox, since the frontend leaves Ctrl+Z to an input that has the focus.
  const box = button("", say("LoRA {row} on", { row }), () => toggle(node, row));
  Object.assign(box, { role: "switch", className: "box" });
  const name = element("span", { className: "name" });
  const up = button("↑", say("Move LoRA {row} up", { row }), () => move(node, row, -1));
  const down = button("↓", say("Move LoRA {row} down", { row }), () => move(node, row, 1));
  const gone = button("×", say("Remove LoRA {row}", { row }), () => remove(node, row));
  const line = button("", "", async () => {
    await copy(line.dataset.words, view);
    line.focus();
    line.textContent = say("copied");
    setTimeout(showDetails, 1000);
  });
  line.className = "line";
  const view = element("div", { role: "group", ariaLabel: say("LoRA {row}", { row }) });
  view.append(box, name, up, down, gone, line);

  async function showDetails() {
    const file = field(node, row, "lora").value;
    const { words, note, problem } = await details(node, row);
    if (field(node, row, "lora").value !== file) return;
    const text = words ?? problem ?? note;
    Object.assign(line, { textContent: text, disabled: !words, title: words ? say("Copy: {words}", { words }) : text });
    line.ariaLabel = words ? say("Copy the trigger words of LoRA {row}: {words}", { row, words }) : text;
    line.dataset.words = words ?? "";
    view.classList.toggle("problem", Boolean(problem));
  }

  function show() {
    const used = usedRows(node);
    const fixed = used.some((other) => isWired(node, other));
    const { on, lora } = read(node)[row - 1];
    view.hidden = !used.includes(row);
    if (view.hidden) return;
    view.classList.toggle("off", !on);
    Object.assign(box, { textContent: on ? "✓" : "", ariaChecked: String(on), disabled: wired(node, `on_${row}`) });
    Object.assign(name, { textContent: `${row}  ${lora}`, title: lora });
    up.disabled = fixed || row === used[0];
    down.disabled = fixed || row === used.at(-1);
    gone.disabled = fixed;
    showDetails();
  }
  return { view, show };
}

function hide(target, hidden) {
  target.hidden = hidden;
  target.options.hidden = hidden;
}

/** Shows the widgets of the rows in use, and the file of one row to add. */
function showWidgets(node) {
  const free = ROWS.find((row) => !isUsed(node, row));
  for (const row of ROWS) {
    const used = isUsed(node, row);
    hide(field(node, row, "on"), !wired(node, `on_${row}`));
    hide(field(node, row, "lora"), !used && row !== free);
    for (const name of ["model", "clip"]) hide(field(node, row, name), !used);
  }
}

/** Adds the rows' panel to a node; gives what brings it up to date. */
function addRows(node) {
  const rows = ROWS.map((row) => createRow(node, row));
  const root = element("div", { className: "makeanything-loras" });
  root.append(...rows.map(({ view }) => view));
  // The graph has keys of its own for these.
  root.addEventListener("keydown", (event) => [" ", "Enter"].includes(event.key) && event.stopPropagation());
  const panel = addPanel(node, "makeanything_loras", root, 0);
  panel.options.getMinHeight = () => usedRows(node).length * ROW_HEIGHT + 2 * panel.margin;
  panel.options.getMaxHeight = panel.options.getMinHeight;
  return () => {
    showWidgets(node);
    hide(panel, usedRows(node).length === 0);
    for (const { show } of rows) show();
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width), height]);
    node.setDirtyCanvas(true, true);
  };
}

/** Node -> what brings its panel up to date. */
const panels = new WeakMap();

app.registerExtension({
  name: "makeanything.lora_stack",

  init() {
    addStyles(STYLES);
  },

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const show = addRows(node);
    panels.set(node, show);
    for (const row of ROWS) for (const name of FIELDS) after(field(node, row, name), "callback", show);
    after(node, "onConfigure", show);
    after(node, "onConnectionsChange", show);
    show();
  },

  refreshComboInNodes() {
    answers.clear();
    for (const node of nodesIn(app.rootGraph ?? app.graph)) panels.get(node)?.();
  },
});
