import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// `npm run dev` talks to a daemon elsewhere: LQ_HOST=https://192.0.2.7 npm run dev
const host = process.env["LQ_HOST"] ?? "https://127.0.0.1:8443";

export default defineConfig({
  plugins: [tailwindcss(), react()],
  build: {
    target: "es2022",
    // The page's content security policy allows no inline script and no data: URL.
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
  },
  server: {
    proxy: {
      "/api": { target: host, secure: false, ws: true, changeOrigin: true },
    },
  },
  test: { environment: "node", include: ["src/**/*.test.ts"] },
});
