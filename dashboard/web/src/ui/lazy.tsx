// Parts whose code comes with their first use.
import { lazy, Suspense } from "react";
import type { ClientKey, Me } from "../api/types";

const Rules = lazy(async () => ({ default: (await import("./RulesDialog")).RulesDialog }));

const HelpDialog = lazy(async () => ({ default: (await import("./Help")).Help }));
const AccountDialog = lazy(async () => ({ default: (await import("./Account")).Account }));

export function Help(props: { onClose: () => void }) {
  return (
    <Suspense fallback={null}>
      <HelpDialog {...props} />
    </Suspense>
  );
}

export function Account(props: { me: Me; onClose: () => void }) {
  return (
    <Suspense fallback={null}>
      <AccountDialog {...props} />
    </Suspense>
  );
}

export function RulesDialog(props: { clients: ClientKey[]; onClose: () => void }) {
  return (
    <Suspense fallback={null}>
      <Rules {...props} />
    </Suspense>
  );
}
