// The routes. Each page is a chunk of its own; the address holds each page's state.
import { createRootRoute, createRoute, createRouter, lazyRouteComponent } from "@tanstack/react-router";
import { parseSearch, stringifySearch, validateSearch } from "./lib/search";
import { NotFound, PageFailed, Shell } from "./Shell";
import { Loading } from "./ui/States";

const root = createRootRoute({ component: Shell, notFoundComponent: NotFound, errorComponent: PageFailed, validateSearch });

const page = <P extends string>(path: P, load: () => Promise<Record<"default", () => React.ReactNode>>) =>
  createRoute({ getParentRoute: () => root, path, component: lazyRouteComponent(load) });

const routeTree = root.addChildren([
  page("/login", () => import("./pages/Login")),
  page("/", () => import("./pages/Overview")),
  page("/triage", () => import("./pages/Triage")),
  page("/client", () => import("./pages/Client")),
  page("/group", () => import("./pages/Group")),
  page("/requests", () => import("./pages/Requests")),
  page("/audit", () => import("./pages/Audit")),
  page("/truth", () => import("./pages/Truth")),
  page("/about", () => import("./pages/About")),
]);

export const router = createRouter({
  routeTree,
  parseSearch,
  stringifySearch,
  defaultPendingComponent: () => <Loading rows={8} label="Loading the page" />,
  defaultErrorComponent: PageFailed,
  defaultPendingMs: 200,
  scrollRestoration: false,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
