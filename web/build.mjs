// Builds the three programs of the browser, or those named: `node build.mjs app`.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "vite";

/** Delivery is the module for any page and, beside it, the page that plays. */
const PARTS = { delivery: ["fallow", "delivery"] };
const APP = new URL("../agent/fallow_agent/lan/app/", import.meta.url);
const PACKED = /\.(js|css|html|svg|webmanifest)$/;

/** A device serves files as they lie on its disk: it has better things to do than to compress them for each phone. */
function pack(directory) {
  for (const name of readdirSync(directory, { recursive: true })) {
    if (!PACKED.test(name)) continue;
    const file = new URL(name, directory);
    writeFileSync(new URL(`${file.href}.gz`), gzipSync(readFileSync(file), { level: 9 }));
  }
}

const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith("-"));
for (const mode of wanted.length > 0 ? wanted : ["app", "console", "delivery"]) {
  for (const part of PARTS[mode] ?? [mode]) await build({ mode: part, logLevel: "warn" });
  if (mode === "app") pack(APP);
}
