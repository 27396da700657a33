"use strict";
const { title, items } = JSON.parse(document.getElementById("data").textContent);
const storage = "libra-audit-" + document.documentElement.dataset.key;
const byId = (id) => document.getElementById(id);
const VALUES = { correct: true, incorrect: false, unsure: null };
let state = { at: 0, labels: {}, notes: {} };
let peeked = new Set();

function load() {
  try {
    state = Object.assign(state, JSON.parse(localStorage.getItem(storage) || "{}"));
    state.at = Math.min(Math.max(0, state.at | 0), items.length - 1);
  } catch (error) { trouble(); }
}
function save() {
  try { localStorage.setItem(storage, JSON.stringify(state)); } catch (error) { trouble(); }
}
function trouble() {
  byId("trouble").textContent = "This browser keeps nothing: export before you close the page.";
}
function add(parent, tag, text, className) {
  const element = parent.appendChild(document.createElement(tag));
  element.textContent = text;
  element.className = className || "";
  return element;
}
function show() {
  const item = items[state.at], label = state.labels[state.at], done = Object.keys(state.labels).length;
  byId("place").textContent = `${state.at + 1} of ${items.length}`;
  byId("count").textContent = done < items.length ? `${done} labelled, ${items.length - done} left` :
    `all ${done} labelled: export them`;
  byId("progress").max = items.length;
  byId("progress").value = done;
  byId("question").textContent = item.question;
  byId("response").textContent = item.response;
  byId("reference-box").hidden = item.reference === null;
  byId("reference").textContent = item.reference || "";
  for (const name in VALUES) {
    byId(name).classList.toggle("chosen", label === name);
    byId(name).setAttribute("aria-pressed", label === name);
  }
  byId("note").value = state.notes[state.at] || "";
  showSaid(item, label !== undefined || peeked.has(state.at));
}
function showSaid(item, open) {
  const box = byId("said");
  box.replaceChildren();
  if (!open) {
    add(box, "div", "Hidden until you have said what you think; r shows it now.", "hidden");
    return;
  }
  add(box, "div", `${item.kind}. Response ${item.sample} of ${item.policy} to ${item.problem_id} (${item.source}).`,
      "hidden");
  for (const { who, verdict, why } of item.said) {
    const line = add(box, "p", `${who}: `, "who");
    add(line, "span", verdict === "none" ? "no verdict" : verdict, `verdict ${verdict}`);
    if (why) add(box, "pre", why, "why");
  }
}
function move(step) {
  state.at = Math.min(Math.max(0, state.at + step), items.length - 1);
  save();
  show();
  byId("main").scrollTop = 0;
}
function say(name) {
  if (state.labels[state.at] === name) delete state.labels[state.at];
  else state.labels[state.at] = name;
  save();
  show();
}
function reveal() {
  peeked.add(state.at);
  show();
}
function exportLabels() {
  const lines = items.flatMap((item, at) => state.labels[at] === undefined ? [] : [JSON.stringify({
    problem_id: item.problem_id, policy: item.policy, sample: item.sample, correct: VALUES[state.labels[at]],
    note: state.notes[at] || "" }) + "\n"]);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
  link.download = "labels.jsonl";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
const KEYS = {
  c: () => say("correct"), x: () => say("incorrect"), u: () => say("unsure"), r: reveal, e: exportLabels,
  n: () => byId("note").focus(), ArrowLeft: () => move(-1), b: () => move(-1), ArrowRight: () => move(1),
  Enter: () => move(1),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.target === byId("note")) {
    if (event.key === "Escape" || event.key === "Enter") { event.preventDefault(); byId("main").focus(); }
  } else if (Object.hasOwn(KEYS, key) && !(key === "Enter" && event.target.closest("button"))) {
    event.preventDefault();
    KEYS[key]();
  }
});
byId("note").addEventListener("input", (event) => {
  state.notes[state.at] = event.target.value;
  save();
});
for (const name in VALUES) byId(name).addEventListener("click", () => say(name));
byId("back").addEventListener("click", () => move(-1));
byId("next").addEventListener("click", () => move(1));
byId("reveal").addEventListener("click", reveal);
byId("export").addEventListener("click", exportLabels);
document.addEventListener("click", (event) => { if (event.target.closest("button")) byId("main").focus(); });
byId("title").textContent = title;
load();
show();
byId("main").focus();  // so that Page Down and the like scroll it
