// Writes a gzip file next to every text file of the build, so that the web server never compresses a file twice.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const folder = process.argv[2] ?? fileURLToPath(new URL('../dist/posthub/browser', import.meta.url));
const TEXT = /\.(html|js|css|svg|txt|webmanifest)$/;
const WORTH_IT = 512;

for (const name of readdirSync(folder, { recursive: true })) {
  const path = join(folder, String(name));
  if (!TEXT.test(path)) continue;
  const plain = readFileSync(path);
  if (plain.length >= WORTH_IT) writeFileSync(`${path}.gz`, gzipSync(plain, { level: 9 }));
}
