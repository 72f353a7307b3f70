// What Python packed: arrays and pictures travel as bytes.

const ARRAYS = {
  float32: Float32Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
};

function fromBase64(text64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text64);
  const letters = atob(text64);
  const out = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) out[i] = letters.charCodeAt(i);
  return out;
}

// Base64 in a page, a DataView from a kernel.
function bytesOf(data) {
  if (typeof data === "string") return fromBase64(data);
  const view = data.buffer
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data);
  return view.byteOffset % 4 ? view.slice() : view; // wider numbers must begin at a multiple of four
}

function toArray({ $array, shape, data }) {
  const bytes = bytesOf(data);
  const Kind = ARRAYS[$array];
  const length = bytes.byteLength / Kind.BYTES_PER_ELEMENT;
  const out = new Kind(bytes.buffer, bytes.byteOffset, length);
  const width = shape.slice(1).reduce((product, side) => product * side, 1);
  out.shape = shape;
  out.row = (i) => out.subarray(i * width, (i + 1) * width);
  return out;
}

class Images {
  constructor({ $images, ends, data }) {
    this.kind = $images;
    this.bytes = bytesOf(data);
    this.ends = toArray(ends);
    this.made = new Map();
  }

  // The address of picture i, or null for a missing one.
  url(i) {
    if (!(i >= 0 && i < this.ends.length)) return null;
    const start = i ? this.ends[i - 1] : 0;
    if (this.ends[i] === start) return null;
    if (!this.made.has(i)) {
      const picture = new Blob([this.bytes.subarray(start, this.ends[i])], { type: this.kind });
      this.made.set(i, URL.createObjectURL(picture));
    }
    return this.made.get(i);
  }

  free() {
    for (const address of this.made.values()) URL.revokeObjectURL(address);
    this.made.clear();
  }
}

// What `pack` of Python made, as the views read it; pictures are also appended to `kept`, to be freed.
export function unpack(value, kept) {
  if (Array.isArray(value)) {
    const plain = value.length && typeof value[0] !== "object";
    return plain ? value : value.map((entry) => unpack(entry, kept));
  }
  if (!value || typeof value !== "object") return value;
  if ("$array" in value) return toArray(value);
  if ("$images" in value) {
    const images = new Images(value);
    kept.push(images);
    return images;
  }
  const entries = Object.entries(value).map(([key, entry]) => [key, unpack(entry, kept)]);
  return Object.fromEntries(entries);
}
