// What the pages know of the host: one query per kind of object. `live.ts` keeps them up to date while someone watches; what
// the host's stream of changes does not tell (status of hosts and pools, leased addresses) is looked at now and then.
import {
  MutationCache,
  QueryCache,
  QueryClient,
  queryOptions,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import type { Action } from "../lib/actions";
import { renew } from "../lib/merge";
import { later, readAnew } from "../lib/tasks";
import {
  ApiError,
  all,
  api,
  call,
  type Host,
  type Identity,
  type Image,
  type Network,
  type Pool,
  type SavedFilter,
  type Task,
  type Vm,
  type Volume,
} from "./client";
import { linkLost } from "./link";

export type Access =
  | { state: "setup" | "out" }
  /** `expired`: was in, and has to log in again to go on where it was. `password`: has to set a new one first. */
  | { state: "in" | "expired" | "password"; identity: Identity };

/** A failed request tells of the link and of the session as well. */
function heed(error: unknown, key?: unknown) {
  if (!(error instanceof ApiError)) return;
  if (error.away) linkLost();
  // The session ended: whoever notices first has it looked at, which asks for the password again.
  if (error.problem.status === 401 && key !== "session")
    void queryClient.refetchQueries({ queryKey: ["session"] }, { cancelRefetch: false });
}

export const queryClient: QueryClient = new QueryClient({
  queryCache: new QueryCache({ onError: (error, query) => heed(error, query.queryKey[0]) }),
  mutationCache: new MutationCache({
    onError: (error, _1, _2, mutation) => heed(error, mutation.options.mutationKey?.[0]),
  }),
  defaultOptions: {
    queries: {
      retry: (count, error) =>
        error instanceof ApiError && (error.away || error.problem.status === 503) && count < 2,
      networkMode: "always",
      refetchOnWindowFocus: false,
    },
    mutations: { networkMode: "always" },
  },
});

/** Set-up state and identity: decides between set-up, log-in and the rest. */
export function useAccess() {
  return useQuery({
    queryKey: ["session"],
    queryFn: async (): Promise<Access> => {
      const before = queryClient.getQueryData<Access>(["session"]);
      try {
        const identity = await call(api.GET("/session"));
        return { state: identity.must_change_password ? "password" : "in", identity };
      } catch (error) {
        if (!(error instanceof ApiError) || error.problem.status !== 401) throw error;
      }
      if (before && "identity" in before) return { ...before, state: "expired" };
      const setup = await call(api.GET("/setup"));
      return { state: setup.needed ? "setup" : "out" };
    },
    staleTime: 60_000,
  });
}

/** Lists kept up to date by the stream of changes, and how often they are looked at all the same, in milliseconds. */
const SELDOM = 60_000;
const OFTEN = 5000;

/** Nothing but its revision and what the stream does not tell can make two states of an object differ. */
const unchanged = <T extends { meta: { revision: number }; status?: unknown }>(a: T, b: T) =>
  a.meta.revision === b.meta.revision && JSON.stringify(a.status) === JSON.stringify(b.status);

const renewed =
  <T extends Vm | Host | Image | Network | Pool | Volume>() =>
  (old: unknown, fresh: unknown) =>
    renew(old as T[] | undefined, fresh as T[], unchanged);

export const useVms = () =>
  useQuery({
    queryKey: ["vms"],
    queryFn: () => all((query) => api.GET("/vms", { params: { query } })),
    structuralSharing: renewed<Vm>(),
    refetchInterval: SELDOM,
    staleTime: SELDOM,
  });

export const useVm = (id: string) => {
  const client = useQueryClient();
  return useQuery({
    queryKey: ["vm", id],
    queryFn: () => call(api.GET("/vms/{id}", { params: { path: { id } } })),
    placeholderData: () => client.getQueryData<Vm[]>(["vms"])?.find(({ meta }) => meta.id === id),
    refetchInterval: OFTEN,
  });
};

/** The counters of a machine that runs. */
export const useVmStats = (id: string, runs: boolean) =>
  useQuery({
    queryKey: ["vm", id, "stats"],
    queryFn: () => call(api.GET("/vms/{id}/stats", { params: { path: { id } } })),
    enabled: runs,
    refetchInterval: OFTEN,
    retry: false,
  });

export const useImages = () =>
  useQuery({
    queryKey: ["images"],
    queryFn: () => all((query) => api.GET("/images", { params: { query } })),
    structuralSharing: renewed<Image>(),
    refetchInterval: SELDOM,
    staleTime: SELDOM,
  });

export const useVolumes = () =>
  useQuery({
    queryKey: ["volumes"],
    queryFn: () => all((query) => api.GET("/volumes", { params: { query } })),
    structuralSharing: renewed<Volume>(),
    refetchInterval: SELDOM,
    staleTime: SELDOM,
  });

export const useNetworks = () =>
  useQuery({
    queryKey: ["networks"],
    queryFn: () => all((query) => api.GET("/networks", { params: { query } })),
    structuralSharing: renewed<Network>(),
    refetchInterval: SELDOM,
    staleTime: SELDOM,
  });

export const useHosts = () =>
  useQuery({
    queryKey: ["hosts"],
    queryFn: () => all((query) => api.GET("/hosts", { params: { query } })),
    structuralSharing: renewed<Host>(),
    refetchInterval: OFTEN * 2,
    staleTime: OFTEN,
  });

export const usePools = () =>
  useQuery({
    queryKey: ["pools"],
    queryFn: () => all((query) => api.GET("/pools", { params: { query } })),
    structuralSharing: renewed<Pool>(),
    refetchInterval: OFTEN * 2,
    staleTime: OFTEN,
  });

export const usePool = (id: string) => {
  const client = useQueryClient();
  return useQuery({
    queryKey: ["pool", id],
    queryFn: () => call(api.GET("/pools/{id}", { params: { path: { id } } })),
    placeholderData: () => client.getQueryData<Pool[]>(["pools"])?.find(({ meta }) => meta.id === id),
    refetchInterval: OFTEN,
  });
};

export const useCluster = () =>
  useQuery({ queryKey: ["cluster"], queryFn: () => call(api.GET("/cluster")), refetchInterval: OFTEN * 2 });

/** The time servers, and the clock of every host. */
export const timeQuery = queryOptions({
  queryKey: ["time"],
  queryFn: () => call(api.GET("/cluster/time")),
});

/** Tasks of the list shown everywhere. */
export const RECENT_TASKS = 200;

export const useTasks = () =>
  useQuery({
    queryKey: ["tasks"],
    queryFn: async () => {
      const { items } = await call(api.GET("/tasks", { params: { query: { limit: RECENT_TASKS } } }));
      return readAnew(queryClient.getQueryData<Task[]>(["tasks"]), items, RECENT_TASKS);
    },
    // The stream tells of them; this is for hosts that this one did not hear from for a while.
    refetchInterval: SELDOM,
    staleTime: SELDOM,
  });

export interface EventFilter {
  target?: string;
  limit?: number;
}

export const useEvents = ({ target, limit = 500 }: EventFilter = {}) =>
  useQuery({
    queryKey: ["events", target ?? "", limit],
    queryFn: async () =>
      (await call(api.GET("/events", { params: { query: { limit, ...(target ? { target } : {}) } } }))).items,
    refetchInterval: OFTEN,
    staleTime: 1000,
  });

/** Alerts: active ones come by the stream as well; what only one host knows does not. */
export const useAlerts = (state: "active" | "resolved") =>
  useQuery({
    queryKey: ["alerts", state],
    queryFn: () => all((query) => api.GET("/alerts", { params: { query: { ...query, state } } })),
    refetchInterval: OFTEN * 2,
    staleTime: 1000,
  });

export const useAlertRules = () =>
  useQuery({ queryKey: ["alert-rules"], queryFn: () => call(api.GET("/alert-rules")) });

export const useChannels = () =>
  useQuery({
    queryKey: ["channels"],
    queryFn: () => all((query) => api.GET("/notification-channels", { params: { query } })),
    refetchInterval: OFTEN,
  });

/** A task until it has ended. The stream tells of it; what it told before this was read is looked at once more. */
export const useTask = (id: string) =>
  useQuery({
    queryKey: ["task", id],
    queryFn: async () => {
      const task = await call(api.GET("/tasks/{id}", { params: { path: { id } } }));
      return later(queryClient.getQueryData<Task>(["task", id]), task);
    },
    refetchInterval: (query) => (query.state.data && query.state.data.state !== "running" ? false : 2000),
  });

export const useUsers = () =>
  useQuery({ queryKey: ["users"], queryFn: () => all((query) => api.GET("/users", { params: { query } })) });

export const useGroups = () =>
  useQuery({
    queryKey: ["groups"],
    queryFn: () => all((query) => api.GET("/groups", { params: { query } })),
  });

export const useRoles = () =>
  useQuery({ queryKey: ["roles"], queryFn: () => all((query) => api.GET("/roles", { params: { query } })) });

export const useSessions = () =>
  useQuery({
    queryKey: ["sessions"],
    queryFn: () => all((query) => api.GET("/sessions", { params: { query } })),
  });

export const useProviders = () =>
  useQuery({
    queryKey: ["providers"],
    queryFn: () => all((query) => api.GET("/identity-providers", { params: { query } })),
    refetchInterval: OFTEN * 2,
  });

/** Ways to log in. */
export const useRealms = () =>
  useQuery({
    queryKey: ["session", "realms"],
    queryFn: () => call(api.GET("/session/realms")),
    // Another one may have been added since the page was opened.
    refetchOnMount: "always",
  });

export const useAudit = () =>
  useQuery({
    queryKey: ["audit"],
    queryFn: async () => (await call(api.GET("/audit", { params: { query: { limit: 1000 } } }))).items,
    refetchInterval: OFTEN * 2,
  });

export const useTokens = () =>
  useQuery({
    queryKey: ["tokens"],
    queryFn: () => all((query) => api.GET("/tokens", { params: { query } })),
  });

/** What the user keeps: saved filters of lists. */
export const useFilters = () =>
  useQuery({
    queryKey: ["settings"],
    queryFn: () => call(api.GET("/session/settings")),
    staleTime: SELDOM,
  });

/** Changes the saved filters as they are now, whatever another window did meanwhile. */
export function useKeepFilters() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async (change: (filters: SavedFilter[]) => SavedFilter[]) => {
      for (let attempt = 0; ; attempt++) {
        const { revision, filters } = await call(api.GET("/session/settings"));
        try {
          return await call(
            api.PUT("/session/settings", {
              headers: { "If-Match": `"${revision}"` },
              body: { filters: change(filters ?? []) },
            }),
          );
        } catch (error) {
          if (attempt > 2 || !(error instanceof ApiError) || error.problem.status !== 412) throw error;
        }
      }
    },
    onSuccess: (settings) => client.setQueryData(["settings"], settings),
  });
}

/** Orders something to be done to a machine. */
export function order(vm: Vm, action: Action) {
  const params = { params: { path: { id: vm.meta.id } } };
  switch (action) {
    case "stop":
      return call(api.POST("/vms/{id}/stop", { ...params, body: { force: false, timeout_seconds: 90 } }));
    case "force-stop":
      return call(api.POST("/vms/{id}/stop", { ...params, body: { force: true, timeout_seconds: 90 } }));
    case "delete":
      return call(api.DELETE("/vms/{id}", params));
    default:
      return call(api.POST(`/vms/{id}/${action}`, params));
  }
}

export function useAction() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ vm, action }: { vm: Vm; action: Action }) => order(vm, action),
    onSettled: (_1, _2, { vm }) => {
      void client.invalidateQueries({ queryKey: ["tasks"] });
      void client.invalidateQueries({ queryKey: ["vm", vm.meta.id] });
    },
  });
}

/** The name of an object by its id, where it is known. */
export function useNames(list: { data?: { meta: { id: string; name: string } }[] | undefined }) {
  return (id: string | null | undefined) => list.data?.find(({ meta }) => meta.id === id)?.meta.name;
}
