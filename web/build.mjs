// Builds the three programs of the browser, or those named: `node build.mjs app`.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "vite";

const PACKED = /\.(js|css|html|svg|webmanifest)$/;

const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith("-"));
for (const mode of wanted.length > 0 ? wanted : ["app", "console", "delivery"]) {
  const { output } = await build({ mode, logLevel: "warn" });
  if (!output) throw new Error(`${mode} was not built`);
  if (mode !== "app") continue;
  // A device serves these as they lie on its disk; it has better things to do than to compress them for each phone.
  const directory = new URL("../agent/fallow_agent/lan/app/", import.meta.url);
  for (const name of readdirSync(directory, { recursive: true })) {
    if (!PACKED.test(name)) continue;
    const file = new URL(name, directory);
    writeFileSync(new URL(`${file.href}.gz`), gzipSync(readFileSync(file), { level: 9 }));
  }
}
