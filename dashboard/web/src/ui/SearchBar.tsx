// The one search bar: the filter language with completion from the server, and its errors shown at the character.
import { useQuery } from "@tanstack/react-query";
import { useEffect, useId, useRef, useState, type KeyboardEvent } from "react";
import { Problem } from "../api/client";
import { fieldsQuery, valuesQuery } from "../api/queries";
import { count } from "../lib/format";
import { typingAt } from "../lib/filter";
import { useKeys } from "../lib/keys";
import { visible } from "../lib/raw";
import type { Range } from "../lib/time";
import { Icon } from "./Icon";
import { Raw } from "./Raw";

interface Choice {
  insert: string;
  shown: string;
  note: string;
}

/** How long after the last key values are asked for. */
const DEBOUNCE_MS = 150;
const CHOICES_MAX = 12;

function useDebounced<T>(value: T, ms: number): T {
  const [late, setLate] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setLate(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return late;
}

function useChoices(text: string, caret: number, open: boolean, range: Range): { choices: Choice[]; start: number; end: number; what: string } {
  const typing = typingAt(text, caret);
  const fields = useQuery({ ...fieldsQuery(), enabled: open });
  const asked = useDebounced(typing.what === "value" ? `${typing.field}\n${typing.prefix}` : "", DEBOUNCE_MS);
  const [field = "", prefix = ""] = asked.split("\n");
  const known = fields.data?.fields.some((one) => (one.name === field || one.aliases.includes(field)) && one.completes) ?? false;
  const fixed = fields.data?.fields.find((one) => one.name === field)?.values ?? [];
  const values = useQuery({ ...valuesQuery(field, prefix, range), enabled: open && known });
  if (!open) return { choices: [], start: caret, end: caret, what: "" };
  if (typing.what === "field") {
    const wanted = typing.prefix.toLowerCase();
    const choices = (fields.data?.fields ?? [])
      .filter((one) => one.name.toLowerCase().includes(wanted))
      .sort((a, b) => Number(b.name.startsWith(wanted)) - Number(a.name.startsWith(wanted)) || a.name.localeCompare(b.name))
      .slice(0, CHOICES_MAX)
      .map((one) => ({ insert: `${one.name}:`, shown: one.name, note: one.description }));
    return { choices, start: typing.start, end: typing.end, what: "fields" };
  }
  if (!known && fixed.length > 0 && field === typing.field) {
    const choices = fixed.filter((one) => one.startsWith(typing.prefix)).map((one) => ({ insert: `${one} `, shown: one, note: "" }));
    return { choices, start: typing.start, end: typing.end, what: `values of ${field}` };
  }
  const choices = (values.data?.values ?? []).slice(0, CHOICES_MAX).map((one) => ({ insert: `${one.written} `, shown: one.value, note: `${one.name ? `${visible(one.name, 60)}, ` : ""}${count(one.requests)}` }));
  return { choices: field === typing.field ? choices : [], start: typing.start, end: typing.end, what: `values of ${typing.field}` };
}

interface Props {
  q: string;
  range: Range;
  onSearch: (q: string) => void;
  /** The error of the page's queries; one that concerns the filter is shown below the bar. */
  error?: unknown;
}

export function SearchBar({ q, range, onSearch, error }: Props) {
  const [text, setText] = useState(q);
  const [caret, setCaret] = useState(q.length);
  const [open, setOpen] = useState(false);
  const [chosen, setChosen] = useState(-1);
  const input = useRef<HTMLInputElement>(null);
  const id = useId();
  const { choices, start, end, what } = useChoices(text, caret, open, range);
  const wrong = error instanceof Problem && error.code === "bad_filter" ? error : null;

  const [shownFor, setShownFor] = useState(q);
  if (q !== shownFor) {
    // The address changed by other means than this bar: it follows.
    setShownFor(q);
    setText(q);
  }
  useKeys({ "/": () => input.current?.select() });

  const take = (choice: Choice) => {
    const next = text.slice(0, start) + choice.insert + text.slice(end).trimStart();
    const at = start + choice.insert.length;
    setText(next);
    setCaret(at);
    setChosen(-1);
    requestAnimationFrame(() => input.current?.setSelectionRange(at, at));
  };

  const onKey = (event: KeyboardEvent<HTMLInputElement>) => {
    if (event.key === "ArrowDown" && open && choices.length > 0) {
      event.preventDefault();
      setChosen((n) => (n + 1) % choices.length);
    } else if (event.key === "ArrowUp" && open && choices.length > 0) {
      event.preventDefault();
      setChosen((n) => (n <= 0 ? choices.length : n) - 1);
    } else if ((event.key === "Enter" || event.key === "Tab") && open && chosen >= 0 && choices[chosen]) {
      event.preventDefault();
      take(choices[chosen]);
    } else if (event.key === "Enter") {
      event.preventDefault();
      setOpen(false);
      onSearch(text.trim());
    } else if (event.key === "Escape") {
      event.preventDefault();
      if (open && choices.length > 0) setOpen(false);
      else {
        setText(q);
        input.current?.blur();
      }
    }
  };

  return (
    <div className="relative min-w-0 flex-1">
      <form
        role="search"
        className="relative"
        onSubmit={(event) => {
          event.preventDefault();
          onSearch(text.trim());
        }}
      >
        <Icon name="search" className="pointer-events-none absolute top-2 left-2.5 text-muted" />
        <input
          ref={input}
          type="text"
          role="combobox"
          aria-label="Filter"
          aria-autocomplete="list"
          aria-expanded={open && choices.length > 0}
          aria-controls={`${id}-list`}
          aria-activedescendant={chosen >= 0 ? `${id}-${chosen}` : undefined}
          aria-invalid={wrong !== null}
          aria-describedby={wrong ? `${id}-error` : undefined}
          autoComplete="off"
          spellCheck={false}
          dir="ltr"
          placeholder="Filter: host:shop.example status:>=400 -ua_family:Chrome     press / to focus"
          className={`field num w-full pr-9 pl-8 text-xs placeholder:font-sans placeholder:text-muted ${wrong ? "border-alert" : ""}`}
          value={text}
          onChange={(event) => {
            setText(event.target.value);
            setCaret(event.target.selectionStart ?? event.target.value.length);
            setOpen(true);
            setChosen(-1);
          }}
          onSelect={(event) => setCaret(event.currentTarget.selectionStart ?? 0)}
          onFocus={() => setOpen(true)}
          onBlur={() => setOpen(false)}
          onKeyDown={onKey}
        />
        {text !== "" && (
          <button
            type="button"
            aria-label="Clear the filter"
            className="absolute top-1 right-1 grid size-6 place-items-center rounded text-muted hover:bg-raised hover:text-text"
            onClick={() => {
              setText("");
              onSearch("");
              input.current?.focus();
            }}
          >
            <Icon name="close" />
          </button>
        )}
      </form>
      {wrong && <FilterError id={`${id}-error`} text={q} problem={wrong} />}
      <ul
        id={`${id}-list`}
        role="listbox"
        aria-label={what || "completions"}
        data-open={open && choices.length > 0 ? "" : undefined}
        hidden={!open || choices.length === 0}
        className="menu absolute top-9 left-0 max-h-96 w-full max-w-2xl overflow-auto"
      >
        {choices.map((choice, i) => (
          <li
            key={choice.shown}
            id={`${id}-${i}`}
            role="option"
            aria-selected={i === chosen}
            className={`flex min-h-7 items-center gap-3 rounded px-2 text-xs ${i === chosen ? "bg-accent-soft" : "hover:bg-raised"}`}
            onMouseDown={(event) => {
              event.preventDefault();
              take(choice);
            }}
          >
            <Raw value={choice.shown} max={90} className="num min-w-0 truncate" />
            <span className="ml-auto max-w-[60%] truncate text-muted">{choice.note}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

function FilterError({ id, text, problem }: { id: string; text: string; problem: Problem }) {
  const chars = [...text];
  const { offset, length } = problem.position ?? { offset: 0, length: 0 };
  const wrong = chars.slice(offset, offset + Math.max(1, length)).join("");
  return (
    <div id={id} role="alert" className="mt-1 rounded-md border border-alert bg-alert-soft px-3 py-1.5 text-xs">
      <p className="font-semibold text-alert">
        <Raw value={problem.detail} max={400} />
      </p>
      {problem.remedy && (
        <p className="text-text">
          <Raw value={problem.remedy} max={400} />
        </p>
      )}
      <p className="num mt-0.5 wrap-anywhere">
        {offset > 0 && <Raw value={chars.slice(0, offset).join("")} max={2000} />}
        <mark className="rounded-xs bg-alert px-px text-surface">{wrong === "" ? "␣" : <Raw value={wrong} max={2000} />}</mark>
        <span className="sr-only"> is wrong, character {offset + 1} </span>
        {chars.length > offset + Math.max(1, length) && <Raw value={chars.slice(offset + Math.max(1, length)).join("")} max={2000} />}
      </p>
    </div>
  );
}
