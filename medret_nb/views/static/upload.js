// A file on its way to the kernel.

const PIECE = 2 << 20; // bytes in one message; notebook servers hang up on more than 10 MB

// Send a file piece by piece; the answer to the last one.
export async function upload(host, file, limit) {
  const { name, size } = file;
  if (size > limit) {
    const most = `${Math.round(limit / 1e6)} MB`;
    throw new Error(`${name}: ${(size / 1e6).toFixed(1)} MB are more than the limit of ${most}`);
  }
  const parts = Math.max(1, Math.ceil(size / PIECE));
  const mark = `${Date.now()}-${Math.random()}`;
  let got = null;
  for (let part = 0; part < parts; part++) {
    const bytes = await file.slice(part * PIECE, (part + 1) * PIECE).arrayBuffer();
    const data = new DataView(bytes);
    got = await host.ask("film", { upload: mark, name, part, parts, size, data });
  }
  return got;
}
