// Who is logged in: role, end of the session, a new password, log out.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { logout, setPassword } from "../api/queries";
import type { Me } from "../api/types";
import { usePrefs } from "../lib/prefs";
import { stamp } from "../lib/time";
import { Dialog } from "./Dialog";
import { Raw } from "./Raw";
import { reasonOf } from "./States";
import { toast } from "./Toasts";

const PASSWORD_MIN = 12;

export function Account({ me, onClose }: { me: Me; onClose: () => void }) {
  const { zone } = usePrefs();
  const navigate = useNavigate();
  const queryClient = useQueryClient();
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  const change = useMutation({
    mutationFn: () => setPassword(next, me.via === "password" ? current : undefined),
    onSuccess: () => {
      toast({ tone: "ok", text: "password set; other sessions of yours have ended" });
      onClose();
    },
  });
  const leave = useMutation({
    mutationFn: logout,
    onSettled: () => {
      queryClient.clear();
      void navigate({ to: "/login" });
    },
  });
  return (
    <Dialog title="Account" onClose={onClose}>
      <div className="flex flex-col gap-4">
        <p className="text-sm">
          <Raw value={me.user} className="font-semibold" />, {me.role}; logged in by {me.via === "link" ? "the one-time link" : "password"} until {stamp(me.expires_at, zone, "minute")}.
        </p>
        <button type="button" className="btn self-start" onClick={() => leave.mutate()}>
          Log out
        </button>
        <form
          className="flex flex-col gap-3 border-t border-line pt-4"
          onSubmit={(event) => {
            event.preventDefault();
            change.mutate();
          }}
        >
          <h3 className="label">New password</h3>
          <input type="text" name="username" autoComplete="username" value={me.user} readOnly hidden />
          {me.via === "password" && (
            <label className="flex flex-col gap-1 text-sm">
              Present password
              <input className="field" type="password" autoComplete="current-password" required value={current} onChange={(event) => setCurrent(event.target.value)} />
            </label>
          )}
          <label className="flex flex-col gap-1 text-sm">
            New password, at least {PASSWORD_MIN} characters
            <input className="field" type="password" autoComplete="new-password" required minLength={PASSWORD_MIN} maxLength={256} value={next} onChange={(event) => setNext(event.target.value)} />
          </label>
          {change.isError && (
            <p role="alert" className="text-sm text-alert">
              {reasonOf(change.error)}
            </p>
          )}
          <button type="submit" className="btn btn-primary self-start" disabled={change.isPending}>
            Set password
          </button>
        </form>
      </div>
    </Dialog>
  );
}
