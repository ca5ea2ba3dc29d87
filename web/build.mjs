// Builds the three programs of the browser, or those named: `node build.mjs app`.
import { build } from "vite";

/** Delivery is the module for any page and, beside it, the page that plays. */
const PARTS = { delivery: ["fallow", "delivery"] };
const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith("-"));
for (const mode of wanted.length > 0 ? wanted : ["app", "console", "delivery"]) {
  for (const part of PARTS[mode] ?? [mode]) await build({ mode: part, logLevel: "warn" });
}
