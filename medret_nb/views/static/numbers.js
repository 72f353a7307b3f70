// Numbers: rows of them, limits, and how they are printed.

export function range(count) {
  return Array.from({ length: count }, (_, i) => i);
}

export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

export function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

export function number(value, digits = 3) {
  const missing = value === null || value === undefined || Number.isNaN(value);
  return missing ? "–" : Number(value).toFixed(digits);
}

// A rank as printed: whole, or halves and the like with one digit.
export function rankText(rank) {
  return number(rank, rank % 1 ? 1 : 0);
}

// Counting sort. Of the numbers 0..count-1 those of group g are items[start[g]] .. items[start[g + 1] - 1], in order;
// groupOf(i) below 0 leaves i out.
export function inGroups(count, groups, groupOf) {
  const start = new Uint32Array(groups + 1);
  for (let i = 0; i < count; i++) {
    const group = groupOf(i);
    if (group >= 0) start[group + 1]++;
  }
  for (let group = 0; group < groups; group++) start[group + 1] += start[group];
  const items = new Uint32Array(start[groups]);
  const next = start.slice();
  for (let i = 0; i < count; i++) {
    const group = groupOf(i);
    if (group >= 0) items[next[group]++] = i;
  }
  return { start, items };
}
