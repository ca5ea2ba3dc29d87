// Three programs of the browser, each built into the Python package that serves it: `vite build --mode NAME`.
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const root = (path: string) => fileURLToPath(new URL(path, import.meta.url));

const OUTPUT: Record<string, string> = {
  app: root("../agent/fallow_agent/lan/app"),
  console: root("../server/fallow_server/console/app"),
  delivery: root("../server/fallow_server/delivery/browser"),
};

export default defineConfig(({ mode }) => {
  const shared = {
    oxc: { jsx: { runtime: "automatic" as const, importSource: "preact" } },
    test: { root: root("."), include: ["**/*.test.{ts,tsx}"] },
  };
  const outDir = OUTPUT[mode];
  if (outDir === undefined) return shared;
  return {
    ...shared,
    root: root(mode),
    // Pages are served below any path of a proxy, so they name their files relatively.
    base: "./",
    build: {
      outDir,
      emptyOutDir: true,
      target: "es2020",
      // A data: URL would need an exception in the content security policy.
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
    },
  };
});
