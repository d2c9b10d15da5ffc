// Starts the app: theme, data cache, router.
import { MutationCache, QueryCache, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Problem } from "./api/client";
import { installPairs } from "./lib/keys";
import { applyTheme } from "./lib/prefs";
import { router } from "./router";
import "./styles.css";

applyTheme();
installPairs();

/** A session that ended sends the reader to the login, and back to the same address afterwards. */
function onError(error: Error): void {
  if (error instanceof Problem && error.status === 401 && router.state.location.pathname !== "/login") {
    sessionStorage.setItem("ja4-return", router.state.location.href);
    void router.navigate({ to: "/login" });
  }
}

const queryClient = new QueryClient({
  queryCache: new QueryCache({ onError }),
  mutationCache: new MutationCache({ onError }),
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      gcTime: 120_000,
      refetchOnWindowFocus: false,
      // A wrong question stays wrong; an absent store comes back.
      retry: (failures, error) => failures < 1 && !(error instanceof Problem && error.status < 500),
      retryDelay: 1_000,
    },
  },
});

const host = document.getElementById("root");
if (host) {
  createRoot(host).render(
    <StrictMode>
      <QueryClientProvider client={queryClient}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </StrictMode>,
  );
}
