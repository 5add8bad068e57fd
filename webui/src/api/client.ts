// The way to `/api/v1` of the host this page came from. No request goes anywhere else.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

type Schemas = components["schemas"];
export type Problem = Schemas["Problem"];
export type Vm = Schemas["Vm"];
export type Image = Schemas["Image"];
export type Volume = Schemas["Volume"];
export type Network = Schemas["Network"];
export type Host = Schemas["Host"];
export type DiskHealth = Schemas["DiskHealth"];
export type PciFunction = Schemas["PciFunction"];
export type Alert = Schemas["Alert"];
export type Severity = Schemas["Severity"];
export type RuleUnit = Schemas["RuleUnit"];
export type AlertRuleInfo = Schemas["AlertRuleInfo"];
export type Channel = Schemas["Channel"];
export type ChannelTarget = Schemas["ChannelTarget"];
export type Provider = Schemas["Provider"];
export type ProviderSpec = Schemas["ProviderSpec"];
export type ProviderSource = Schemas["ProviderSource"];
export type Realm = Schemas["Realm"];
export type Task = Schemas["Task"];
export type Event = Schemas["Event"];
export type CreateVm = Schemas["CreateVm"];
export type CreateImage = Schemas["CreateImage"];
export type CreateVolume = Schemas["CreateVolume"];
export type UpdateVm = Schemas["UpdateVm"];
export type VmSpec = Schemas["VmSpec"];
export type Pool = Schemas["Pool"];
export type CreatePool = Schemas["CreatePool"];
export type ForeignFile = Schemas["ForeignFile"];
export type Cluster = Schemas["Cluster"];
export type Member = Schemas["Member"];
export type Balance = Schemas["Balance"];
export type Recommendation = Schemas["Recommendation"];
export type HaStatus = Schemas["HaStatus"];
export type HaHost = Schemas["HaHost"];
export type HaMachine = Schemas["HaMachine"];
export type HostTime = Schemas["HostTime"];
export type WaitingHost = Schemas["WaitingHost"];
export type JoinToken = Schemas["JoinToken"];
export type JoinPreview = Schemas["JoinPreview"];
export type QuorumLoss = Schemas["QuorumLoss"];
export type ReformHost = Schemas["ReformHost"];
export type ReformPreview = Schemas["ReformPreview"];
export type StateBackup = Schemas["StateBackup"];
export type MetricHistory = Schemas["MetricHistory"];
export type Usage = Schemas["Usage"];
export type Load = Schemas["Load"];
export type ManagementNetwork = Schemas["ManagementNetwork"];
export type HostNetwork = Schemas["HostNetwork"];
export type Bmc = Schemas["Bmc"];
export type BmcSpec = Schemas["BmcSpec"];
export type BmcTest = Schemas["BmcTest"];
export type SetBmc = Schemas["SetBmc"];
export type NetworkTest = Schemas["NetworkTest"];
export type Placement = Schemas["Placement"];
export type Token = Schemas["Token"];
export type CreateNetwork = Schemas["CreateNetwork"];
export type NetworkSpec = Schemas["NetworkSpec"];
export type Identity = Schemas["Identity"];
export type User = Schemas["User"];
export type Group = Schemas["Group"];
export type Role = Schemas["Role"];
export type Grant = Schemas["Grant"];
export type Right = Schemas["Right"];
export type SessionInfo = Schemas["SessionInfo"];
export type AuditRecord = Schemas["AuditRecord"];
export type Verdict = Schemas["Verdict"];
export type HostPowerAction = Schemas["HostPowerAction"];
export type SavedFilter = Schemas["SavedFilter"];

/** Proof that a request comes from this page: other origins cannot set it. */
export const PROOF = { "X-LQ-Request": "1" } as const;

/** A host that is silent for so long is not reached, in milliseconds. */
const PATIENCE = 30_000;

/** A host that wants to be asked more slowly is asked again after at most so many seconds, so often. */
const LONGEST_WAIT = 5;
const TRIES = 3;

let renewing: Promise<boolean> | undefined;

/** Asks for the next access token; requests that need it at the same time share the answer. */
function renew(): Promise<boolean> {
  renewing ??= fetch("/api/v1/session/refresh", { method: "POST", headers: PROOF })
    .then(
      (answer) => answer.ok,
      () => false,
    )
    .finally(() => (renewing = undefined));
  return renewing;
}

/** Asks; more slowly where the host wants that; where the access token has run out, once more with the next one. */
async function ask(request: Request): Promise<Response> {
  const once = async (what: Request) => {
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(), PATIENCE);
    const answer = await fetch(what, { signal: AbortSignal.any([request.signal, silence.signal]) });
    // A file takes as long as it takes.
    if (!answer.headers.get("Content-Type")?.includes("json")) clearTimeout(timer);
    return answer;
  };
  const again = request.clone();
  let answer = await once(request);
  // A refused log-in is an answer, not a token that ran out.
  const logIn = request.method === "POST" && new URL(request.url).pathname.startsWith("/api/v1/session");
  for (let tries = 0; answer.status === 429 && !logIn && tries < TRIES; tries += 1) {
    const wait = Number(answer.headers.get("Retry-After"));
    if (!(wait > 0 && wait <= LONGEST_WAIT)) break;
    await new Promise((over) => setTimeout(over, wait * 1000));
    answer = await once(again.clone());
  }
  return answer.status === 401 && !logIn && (await renew()) ? once(again) : answer;
}

export const api = createClient<paths>({
  baseUrl: `${location.origin}/api/v1`,
  headers: PROOF,
  credentials: "same-origin",
  fetch: ask,
});

/** A request that failed, in words for people. */
export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail || problem.title);
  }
  /** The host was not reached at all. */
  get away() {
    return this.problem.status === 0;
  }
  /** Why this field was refused. */
  field(...names: string[]): string | undefined {
    return this.problem.errors?.find((error) => names.includes(error.field))?.reason;
  }
}

/** Why a request was refused because of one of these fields; nothing where it was not. */
export const fieldFault = (error: unknown, ...names: string[]) =>
  error instanceof ApiError ? error.field(...names) : undefined;

/** The problem an unsuccessful answer stands for, whatever its body is. */
export function problem(status: number, body: unknown): Problem {
  if (typeof body === "object" && body !== null && "detail" in body && "title" in body)
    return body as Problem;
  return {
    type: "about:blank",
    title: "Unexpected answer",
    status,
    detail:
      status === 0
        ? "The host does not answer. It may be restarting, or the network between is broken."
        : `The host answered with status ${status} and no explanation.`,
  };
}

/** The answer's body, or the error. */
export async function call<T>(
  request: Promise<{ data?: T; error?: unknown; response: Response }>,
): Promise<T> {
  let answer;
  try {
    answer = await request;
  } catch {
    throw new ApiError(problem(0, undefined));
  }
  if (!answer.response.ok) throw new ApiError(problem(answer.response.status, answer.error));
  return answer.data as T;
}

/** Any error as words. */
export function words(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Every object of a list, page by page. */
export async function all<T>(
  page: (query: {
    limit: number;
    cursor?: string;
  }) => Promise<{ data?: { items: T[]; next_cursor?: string | null }; error?: unknown; response: Response }>,
): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | undefined;
  do {
    const got = await call(page(cursor ? { limit: 1000, cursor } : { limit: 1000 }));
    items.push(...got.items);
    cursor = got.next_cursor ?? undefined;
  } while (cursor);
  return items;
}

/** Sends a file as an image's content. `signal` breaks it off. */
export function upload(
  id: string,
  file: File,
  progress: (sent: number, total: number) => void,
  signal: AbortSignal,
): Promise<Image> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `/api/v1/images/${encodeURIComponent(id)}/content`);
    for (const [name, value] of Object.entries(PROOF)) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "json";
    request.upload.onprogress = (event) => progress(event.loaded, event.total);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) resolve(request.response as Image);
      else reject(new ApiError(problem(request.status, request.response)));
    };
    request.onerror = () => reject(new ApiError(problem(0, undefined)));
    request.onabort = () => reject(new DOMException("The upload was broken off.", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(file);
  });
}
