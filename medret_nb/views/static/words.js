// In which words two reports differ: compared in their order, sentence against nearest sentence.

import { h, report } from "./elements.js";
import { sum } from "./numbers.js";

const LITTLE = new Set(
  (
    "a an and are as at be by for from has have in is it of on or seen that the there this to was were with " +
    "noted present identified"
  ).split(" "),
);
const MOST_PAIRS = 250_000; // pairs of words; longer texts are not compared

function wordsOf(text) {
  const strip = (word) => word.toLowerCase().replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, "");
  return (text.match(/\S+/g) ?? []).map((word) => ({ word, key: strip(word) }));
}

function sentencesOf(text) {
  const sentences = text.split(/(?<=[.!?;])\s+/).map(wordsOf);
  return sentences.filter((sentence) => sentence.length);
}

// best[i * width + j]: how many words a[i..] and b[j..] have in common in the same order.
function commonLengths(a, b) {
  const width = b.length + 1;
  const best = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const at = i * width + j;
      const isSame = a[i].key === b[j].key;
      best[at] = isSame ? best[at + width + 1] + 1 : Math.max(best[at + width], best[at + 1]);
    }
  }
  return best;
}

// Which words of a lie on the longest row of words that a and b have in the same order.
function commonWords(a, b) {
  const width = b.length + 1;
  const best = commonLengths(a, b);
  const kept = new Uint8Array(a.length);
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    const at = i * width + j;
    if (a[i].key === b[j].key) {
      kept[i] = 1;
      i++;
      j++;
    } else if (best[at + 1] >= best[at + width]) j++;
    else i++;
  }
  return kept;
}

// The words of a sentence that it shares with the nearest of some sentences.
function sharedWith(sentence, sentences) {
  let best = { kept: new Uint8Array(sentence.length), near: 0 };
  for (const other of sentences) {
    const kept = commonWords(sentence, other);
    const near = sum(kept) / Math.max(sentence.length, other.length);
    if (near > best.near) best = { kept, near };
  }
  return best.kept;
}

function isTelling(key) {
  return key !== "" && !LITTLE.has(key) && !/^\d$/.test(key);
}

// Words of a text, `own` where the nearest sentence of the other lacks them; null for texts too long to compare.
function ownWords(text, other) {
  const mine = sentencesOf(text);
  const theirs = sentencesOf(other);
  const size = (sentences) => sum(sentences.map((sentence) => sentence.length));
  if (size(mine) * size(theirs) > MOST_PAIRS) return null;
  return mine.flatMap((sentence) => {
    const kept = sharedWith(sentence, theirs);
    return sentence.map(({ word, key }, i) => ({ word, own: !kept[i] && isTelling(key) }));
  });
}

// A report in which the words that the other lacks are marked.
export function comparedReport(text, other) {
  const words = text ? ownWords(text, other) : null;
  if (!words) return report(text || "(no text)");
  const box = report("");
  words.forEach(({ word, own }, i) => {
    if (i) box.append(" ");
    box.append(own ? h("mark", {}, word) : word);
  });
  return box;
}
