// The help overlay: every key, and the switch that turns single keys off.
import { SHORTCUTS } from "../lib/keys";
import { setPrefs, usePrefs } from "../lib/prefs";
import { Dialog } from "./Dialog";

export function Help({ onClose }: { onClose: () => void }) {
  const { shortcuts } = usePrefs();
  return (
    <Dialog title="Keyboard and filter" onClose={onClose} wide>
      <div className="grid gap-6 sm:grid-cols-2">
        {SHORTCUTS.map((group) => (
          <section key={group.title} aria-label={group.title}>
            <h3 className="label pb-1">{group.title}</h3>
            <dl className="grid grid-cols-[7rem_1fr] gap-y-1 text-sm">
              {group.keys.map(([keys, text]) => (
                <div key={keys} className="contents">
                  <dt className="flex flex-wrap gap-1">
                    {keys.split(" ").filter(Boolean).map((key) => (
                      <kbd key={key} className="kbd self-start">
                        {key}
                      </kbd>
                    ))}
                  </dt>
                  <dd>{text}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
        <section aria-label="Filter language" className="sm:col-span-2">
          <h3 className="label pb-1">Filter language</h3>
          <dl className="grid grid-cols-[minmax(12rem,auto)_1fr] gap-x-4 gap-y-1 text-sm">
            {FILTERS.map(([example, text]) => (
              <div key={example} className="contents">
                <dt className="num text-xs leading-5">{example}</dt>
                <dd className="text-muted">{text}</dd>
              </div>
            ))}
          </dl>
        </section>
        <label className="flex items-center gap-2 text-sm sm:col-span-2">
          <input type="checkbox" className="size-4 accent-accent" checked={shortcuts} onChange={(event) => setPrefs({ shortcuts: event.target.checked })} />
          Single-key shortcuts. Switch them off when speech input presses keys by accident.
        </label>
      </div>
    </Dialog>
  );
}

const FILTERS: readonly (readonly [string, string])[] = [
  ["host:shop.example", "a field has this value"],
  ['user_agent:"*curl*"', "* stands for anything"],
  ["status:>=400   status:400..499", "comparison, range"],
  ["src_ip:10.0.0.0/8", "addresses of a network"],
  ["ja4:(a OR b)", "one of a list"],
  ["-ua_family:Chrome   NOT status:200", "everything else"],
  ["(host:a OR host:b) AND status:200", "AND, OR and brackets; words side by side mean AND"],
  ["checkout", "free text: in the User-Agent, the path or the host"],
];
