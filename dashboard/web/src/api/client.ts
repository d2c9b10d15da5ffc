// The typed client of the dashboard's API: the cross-site token on every act, problems as errors, and who is logged in.
import createClient, { type Middleware } from "openapi-fetch";
import type { paths } from "./schema";

/** An answer that is not what was asked for, as the server words it. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
    /** Where a filter is wrong, in characters. */
    readonly position: { offset: number; length: number } | null = null,
    /** What to do about it, where the server knows. */
    readonly remedy: string | null = null,
  ) {
    super(detail);
    this.name = "Problem";
  }
}

let csrf = "";

/** The token that every act carries; comes with the login. */
export function setCsrf(token: string): void {
  csrf = token;
}

const middleware: Middleware = {
  onRequest({ request }) {
    if (!["GET", "HEAD"].includes(request.method) && csrf) request.headers.set("x-csrf-token", csrf);
    return request;
  },
};

export const api = createClient<paths>({ baseUrl: "/" });
api.use(middleware);

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** The data of an answer, or a `Problem`. */
export async function unwrap<T>(answer: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await answer;
  if (response.ok && data !== undefined) return data;
  if (response.ok) return undefined as T;
  throw toProblem(response.status, error);
}

export function toProblem(status: number, body: unknown): Problem {
  const fields = typeof body === "object" && body !== null ? (body as Record<string, unknown>) : {};
  const detail = typeof fields.detail === "string" ? fields.detail : typeof fields.title === "string" ? fields.title : `the server answered ${status}`;
  const place = fields.position as { offset?: unknown; length?: unknown } | null | undefined;
  const position = typeof place?.offset === "number" ? { offset: place.offset, length: typeof place.length === "number" ? place.length : 0 } : null;
  return new Problem(status, typeof fields.code === "string" ? fields.code : "", detail, position, typeof fields.remedy === "string" ? fields.remedy : null);
}
