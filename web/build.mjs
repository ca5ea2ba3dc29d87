// Builds the three programs of the browser, or those named: `node build.mjs app`.
import { build } from "vite";

const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith("-"));
for (const mode of wanted.length > 0 ? wanted : ["app", "console", "delivery"]) {
  await build({ mode, logLevel: "warn" });
}
