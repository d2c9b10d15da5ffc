// Builds the app into dist/, or into $JA4_WEB_DIST; runs the unit tests.
import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [react(), tailwindcss()],
  build: {
    outDir: process.env.JA4_WEB_DIST ?? "dist",
    emptyOutDir: true,
    // The content security policy allows no data: addresses, so that nothing is inlined.
    assetsInlineLimit: 0,
    sourcemap: false,
    target: "es2023",
    manifest: true,
  },
  server: { proxy: { "/api": process.env.JA4_API ?? "http://127.0.0.1:8000" } },
  test: { include: ["src/**/*.test.ts", "src/**/*.test.tsx"] },
});
