// Login: by name and password, or by the one-time link of the local administrator (`/login#token=…`).
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { setCsrf } from "../api/client";
import { login, loginByLink } from "../api/queries";
import type { Me } from "../api/types";
import { Icon } from "../ui/Icon";
import { reasonOf } from "../ui/States";

/** The token of a one-time link; it is taken out of the address at once, so that it stays in no history. */
function takeToken(): string | null {
  const token = /^#token=([0-9A-Za-z_-]{16,256})$/.exec(window.location.hash)?.[1] ?? null;
  if (token) window.history.replaceState(window.history.state, "", "/login");
  return token;
}

export default function Login() {
  const navigate = useNavigate();
  const queryClient = useQueryClient();
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const onSuccess = (me: Me) => {
    setCsrf(me.csrf_token);
    queryClient.clear();
    queryClient.setQueryData(["me"], me);
    const back = sessionStorage.getItem("ja4-return");
    sessionStorage.removeItem("ja4-return");
    // Only a path of this site: an address that starts with two slashes would lead elsewhere.
    void navigate({ href: back && /^\/(?![/\\])/.test(back) && !back.startsWith("/login") ? back : "/" });
  };
  const byPassword = useMutation({ mutationFn: () => login(user, password), onSuccess });
  const byLink = useMutation({ mutationFn: loginByLink, onSuccess });
  const { mutate: useLink } = byLink;
  useEffect(() => {
    // A link that is opened while this page is shown changes only the hash.
    const look = () => {
      const token = takeToken();
      if (token) useLink(token);
    };
    look();
    window.addEventListener("hashchange", look);
    return () => window.removeEventListener("hashchange", look);
  }, [useLink]);

  const error = byPassword.error ?? byLink.error;
  return (
    <main className="grid min-h-full place-items-center p-6">
      <div className="card w-full max-w-sm p-6 shadow-xl">
        <div className="mb-5 flex items-center gap-3">
          <img src="/icon.svg" alt="" className="size-9" />
          <div>
            <h1 className="text-lg leading-6 font-semibold">ja4-platform</h1>
            <p className="text-xs text-muted">Who is a bot, why, since when, and what now</p>
          </div>
        </div>
        {byLink.isPending ? (
          <p role="status" className="py-6 text-center text-muted">
            Logging in by the one-time link…
          </p>
        ) : (
          <form
            className="flex flex-col gap-3"
            onSubmit={(event) => {
              event.preventDefault();
              byPassword.mutate();
            }}
          >
            <label className="flex flex-col gap-1 text-sm">
              Name
              <input className="field h-9" name="username" autoComplete="username" required value={user} onChange={(event) => setUser(event.target.value)} />
            </label>
            <label className="flex flex-col gap-1 text-sm">
              Password
              <input className="field h-9" name="password" type="password" autoComplete="current-password" required value={password} onChange={(event) => setPassword(event.target.value)} />
            </label>
            {error && (
              <p role="alert" className="flex gap-2 rounded-md bg-alert-soft px-3 py-2 text-sm text-alert">
                <Icon name="alert" className="mt-0.5" />
                {reasonOf(error)}
              </p>
            )}
            <button type="submit" className="btn btn-primary mt-1 h-9" disabled={byPassword.isPending}>
              {byPassword.isPending ? "Logging in…" : "Log in"}
            </button>
            <p className="text-xs text-muted">The process that runs the dashboard prints a one-time link for the local administrator when it starts.</p>
          </form>
        )}
      </div>
    </main>
  );
}
