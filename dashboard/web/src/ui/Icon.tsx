// The few icons of the app, drawn here: 16 px, one stroke. They are decoration; text beside them carries the meaning.

const PATHS = {
  overview: "M2 13.5h12M4 11V7.5M8 11V3M12 11V5.5",
  triage: "M2 3.5h12M2 8h8M2 12.5h5M11 12l1.5 1.5L15 10.5",
  requests: "M2 3.5h12M2 8h12M2 12.5h12",
  audit: "M4 2h6l3 3v9H4zM10 2v3h3M6.5 8.5h4M6.5 11h4",
  truth: "M8 1.8l5.5 2v4c0 3.2-2.2 5.3-5.5 6.4C4.700 13.100 2.500 11 2.500 7.800v-4zM5.500 8l1.800 1.800L10.700 6.300",
  about: "M8 14.200a6.200 6.200 0 1 0 0-12.400 6.200 6.200 0 0 0 0 12.400zM8 7.300v3.900M8 4.900v.1",
  search: "M7 12a5 5 0 1 0 0-10 5 5 0 0 0 0 10zM10.700 10.700L14 14",
  clock: "M8 14.200a6.200 6.200 0 1 0 0-12.400 6.200 6.200 0 0 0 0 12.400zM8 4.500V8l2.300 1.500",
  close: "M4 4l8 8M12 4l-8 8",
  check: "M3 8.500l3.500 3.500L13 4.500",
  cross: "M4.500 4.500l7 7M11.500 4.500l-7 7",
  question: "M5.700 6a2.300 2.300 0 1 1 3.300 2c-.7.400-1 .8-1 1.600M8 12.200v.1",
  alert: "M8 2L14.500 13.500h-13zM8 6.300v3.400M8 11.600v.1",
  bot: "M3.500 6h9v7h-9zM8 6V3M6 9v.8M10 9v.8M1.800 8.500v2.500M14.200 8.500v2.500",
  person: "M8 8a2.800 2.800 0 1 0 0-5.600A2.800 2.800 0 0 0 8 8zM2.800 14c.4-3 2.600-4.300 5.200-4.300s4.800 1.300 5.200 4.300",
  crawler: "M8 5.500a3.200 3.200 0 1 0 0 6.400 3.200 3.200 0 0 0 0-6.400zM8 5.500V2.500M5 7L2 5M11 7l3-2M5 10.500L2 12.500M11 10.500l3 2",
  undo: "M5.500 3L2.500 6l3 3M2.500 6h7a4 4 0 0 1 0 8H6",
  download: "M8 2v8M4.800 7L8 10.200 11.200 7M2.500 13.500h11",
  chevron: "M4.500 6.200L8 9.700l3.500-3.500",
  left: "M9.700 4.500L6.200 8l3.500 3.500",
  refresh: "M13.500 8a5.500 5.500 0 1 1-1.700-4M13.500 2v3h-3",
  sun: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM8 1.500v1.500M8 13v1.500M1.500 8H3M13 8h1.500M3.400 3.400l1 1M11.600 11.600l1 1M3.400 12.600l1-1M11.600 4.400l1-1",
  moon: "M13 9.500A5.500 5.500 0 0 1 6.500 3a5.500 5.500 0 1 0 6.500 6.500z",
  facets: "M2 3h12l-4.700 5.500V13L6.700 14V8.500z",
  shield: "M8 1.800l5.500 2v4c0 3.200-2.200 5.300-5.500 6.400-3.300-1.100-5.500-3.200-5.500-6.400v-4z",
  copy: "M5.500 5.500h8v8h-8zM10.500 5.500v-3h-8v8h3",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  only: "M8 13.500a5.500 5.500 0 1 0 0-11 5.500 5.500 0 0 0 0 11zM8 9.500a1.500 1.500 0 1 0 0-3 1.500 1.500 0 0 0 0 3z",
  group: "M2 2.500h5v5H2zM9 8.500h5v5H9zM9 2.500h5v3H9zM2 10.500h5v3H2z",
  open: "M9.500 2.500h4v4M13.500 2.500L7.500 8.500M11.500 9.500v4h-9v-9h4",
  keyboard: "M1.500 4h13v8.500h-13zM4 6.700v.1M6.700 6.700v.1M9.300 6.700v.1M12 6.700v.1M4.500 10h7",
  user: "M8 8a2.800 2.800 0 1 0 0-5.600A2.800 2.800 0 0 0 8 8zM2.800 14c.4-3 2.600-4.300 5.200-4.300s4.800 1.300 5.200 4.300",
  rewind: "M7.500 4L2.500 8l5 4zM13.500 4l-5 4 5 4z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, className = "" }: { name: IconName; className?: string }) {
  return (
    <svg aria-hidden="true" viewBox="0 0 16 16" className={`size-4 shrink-0 ${className}`} fill="none" stroke="currentColor" strokeWidth="1.4" strokeLinecap="round" strokeLinejoin="round">
      <path d={PATHS[name]} />
    </svg>
  );
}
