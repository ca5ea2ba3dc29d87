// The programs of the browser, each built into the Python package that serves it: `vite build --mode NAME`.
import { fileURLToPath } from "node:url";
import type { BuildOptions } from "vite";
import { defineConfig } from "vitest/config";

const root = (path: string) => fileURLToPath(new URL(path, import.meta.url));

const OUTPUT: Record<string, string> = {
  app: root("../agent/fallow_agent/lan/app"),
  console: root("../server/fallow_server/console/app"),
  fallow: root("../server/fallow_server/delivery/browser"),
  delivery: root("../server/fallow_server/delivery/browser"),
};
const FALLOW = root("delivery/src/fallow.ts");

// The module for any page has a name of its own, which the page that plays uses too; all other files are named by what
// is in them.
const MODULE: BuildOptions = {
  lib: { entry: FALLOW, formats: ["es"] },
  // Vite leaves white space in modules, for those who bundle them.
  rolldownOptions: {
    output: { minify: true, entryFileNames: "fallow.js", chunkFileNames: "fallow/[name]-[hash].js" },
  },
};
const PAGE: BuildOptions = {
  emptyOutDir: false,
  // hls.js, which is loaded for playlists only.
  chunkSizeWarningLimit: 700,
  assetsDir: "fallow",
  rolldownOptions: {
    input: root("delivery/watch/index.html"),
    external: [FALLOW],
    output: { paths: { [FALLOW]: "./fallow.js" } },
  },
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
    root: root(mode === "fallow" ? "delivery" : mode),
    // Pages are served below any path of a proxy, so they name their files relatively.
    base: "./",
    build: {
      outDir,
      emptyOutDir: true,
      // Private members in older JavaScript would make fallow.js half as large again.
      target: mode === "fallow" || mode === "delivery" ? "es2022" : "es2020",
      // A data: URL would need an exception in the content security policy.
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
      // Whose code is in it goes with it.
      license: { fileName: mode === "fallow" ? "licences-fallow.md" : "licences.md" },
      ...(mode === "fallow" ? MODULE : mode === "delivery" ? PAGE : {}),
    },
  };
});
