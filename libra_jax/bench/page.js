"use strict";
const form = document.querySelector("#filters");
const cards = [...document.querySelectorAll(".example")];
const texts = new Map();
function text(card) {
  if (!texts.has(card)) texts.set(card, card.textContent.toLowerCase());
  return texts.get(card);
}
function matches(card, want, words) {
  if (want.label && card.dataset.label !== want.label) return false;
  if (want.source && card.dataset.source !== want.source) return false;
  if (want.agreement === "split" && card.dataset.split !== "1") return false;
  const right = {right: "1", wrong: "0"}[want.agreement];
  const said = [...card.querySelectorAll(".verdict")].some(({dataset}) =>
    (!want.judge || dataset.judge === want.judge) && (!want.verdict || dataset.verdict === want.verdict)
    && (!right || dataset.right === right));
  return said && words.every(word => text(card).includes(word));
}
function show() {
  const want = Object.fromEntries(new FormData(form));
  const words = want.search.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const card of cards) count += !(card.hidden = !matches(card, want, words));
  form.querySelector("output").textContent = `${count} of ${cards.length}`;
}
if (form) {
  form.hidden = false;
  form.addEventListener("input", show);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(show));
  show();
}
