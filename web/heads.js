/** Nodes that choose from a heads file: the lists of domains follow the file, and layouts follow the domain. */
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { after, nodesIn, set, widget, wired } from "./shared.js";

const SOCKET = "MAKEANYTHING_DOMAIN";
const FROM_DOMAIN = "from domain";

/** Heads file -> its domains, each {name, rows, cols, frames}. */
let files = {};

async function readFiles() {
  try {
    const answer = await api.fetchApi("/makeanything/heads", { cache: "no-store" });
    if (answer.ok) files = await answer.json();
  } catch (error) {
    console.warn("MakeAnything: the domains of the heads files can't be read; the lists show all of them.", error);
  }
}

const rowsOf = (node) => node.widgets?.filter(({ name }) => /^domain(_\d+)?$/.test(name)) ?? [];

const choosesHeads = (node) =>
  node.comfyClass?.startsWith("MakeAnything") && widget(node, "heads") && rowsOf(node).length > 0;

/** The domains of the chosen file; undefined when it is not known here, or comes in by a wire. */
const domainsOf = (node) => (wired(node, "heads") ? undefined : files[widget(node, "heads").value]);

/** Lists the chosen file's domains, or all when it is not known. With `choose`, a row gets one that the file has. */
function follow(node, choose) {
  const domains = domainsOf(node);
  const names = [...new Set((domains ?? Object.values(files).flat()).map(({ name }) => name))];
  if (!names.length) return;
  rowsOf(node).forEach((row, index) => {
    row.options.values = names;
    if (choose && domains && !names.includes(row.value)) set(node, row, names[index % names.length]);
  });
}

/** The domain that decides the grid: the one of the largest weight. */
function mainDomain(node) {
  const weight = (row) => widget(node, row.name.replace("domain", "weight"))?.value ?? 1;
  const main = rowsOf(node).reduce((best, row) => (weight(row) > weight(best) ? row : best));
  return domainsOf(node)?.find(({ name }) => name === main.value);
}

/** The nodes that an output is wired to, through Reroute nodes too. */
function consumers(node, output) {
  if (!node.outputs[output]?.links?.length) return [];
  return node.getOutputNodes(output).flatMap((target) => (target.type === "Reroute" ? consumers(target, 0) : [target]));
}

/** Rows and columns that a node's layout says; undefined when it takes them from its domain. */
function layoutOf(node) {
  const value = widget(node, "layout")?.value;
  if (value === "custom") return [widget(node, "layout.rows")?.value, widget(node, "layout.cols")?.value];
  return value
    ?.match(/\((\d+)x(\d+)\)/)
    ?.slice(1)
    .map(Number);
}

/** Sets nodes that say another layout than the domain wired into them to take it from the domain. */
function setLayouts(node) {
  const domain = mainDomain(node);
  if (!domain) return;
  for (const target of consumers(node, node.findOutputSlotByType(SOCKET))) {
    const [rows, cols] = layoutOf(target) ?? [domain.rows, domain.cols];
    if (rows !== domain.rows || cols !== domain.cols) set(target, widget(target, "layout"), FROM_DOMAIN);
  }
}

app.registerExtension({
  name: "makeanything.heads",

  init: readFiles,

  nodeCreated(node) {
    if (!choosesHeads(node)) return;
    follow(node, true);
    after(node, "onConfigure", () => follow(node, false));
    after(widget(node, "heads"), "callback", () => {
      follow(node, true);
      setLayouts(node);
    });
    for (const row of rowsOf(node)) after(row, "callback", () => setLayouts(node));
  },

  async refreshComboInNodes() {
    await readFiles();
    for (const node of nodesIn(app.rootGraph ?? app.graph)) if (choosesHeads(node)) follow(node, false);
  },
});
