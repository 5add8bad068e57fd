// What the pages know of the host: one query per kind of object, looked at again while someone watches.
import { QueryCache, QueryClient, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import type { Action } from "../lib/actions";
import { ApiError, all, api, call, type Vm } from "./client";

export const queryClient: QueryClient = new QueryClient({
  queryCache: new QueryCache({
    onError: (error, query) => {
      // The session ended: whoever notices first has it looked at, which leads to the log-in page.
      if (error instanceof ApiError && error.problem.status === 401 && query.queryKey[0] !== "session")
        void queryClient.refetchQueries({ queryKey: ["session"] }, { cancelRefetch: false });
    },
  }),
  defaultOptions: {
    queries: {
      retry: (count, error) =>
        error instanceof ApiError && (error.away || error.problem.status === 503) && count < 2,
      networkMode: "always",
    },
    mutations: { networkMode: "always" },
  },
});

/** Which lists change with an object of this kind. */
const KINDS: Record<string, string> = { vm: "vms", image: "images", network: "networks", host: "hosts" };
/** Changes that come together are looked at together, in milliseconds. */
const GATHER = 150;

/** Looks again as soon as the host says that something changed. What it does not tell of is looked at now and then. */
export function useLive() {
  const client = useQueryClient();
  useEffect(() => {
    let source: EventSource;
    let retry: ReturnType<typeof setTimeout> | undefined;
    const changed = new Set<string>();
    let gather: ReturnType<typeof setTimeout> | undefined;
    const look = () => {
      gather = undefined;
      for (const list of changed) void client.invalidateQueries({ queryKey: [list] });
      changed.clear();
    };
    const connect = () => {
      source = new EventSource("/api/v1/watch");
      for (const [kind, list] of Object.entries(KINDS))
        source.addEventListener(kind, () => {
          changed.add(list);
          gather ??= setTimeout(look, GATHER);
        });
      source.onerror = () => {
        // A broken connection is mended by the browser; a refusal is not.
        if (source.readyState === EventSource.CLOSED) retry = setTimeout(connect, 5000);
      };
    };
    connect();
    return () => {
      clearTimeout(retry);
      clearTimeout(gather);
      source.close();
    };
  }, [client]);
}

/** Set-up state and identity: decides between set-up, log-in and the rest. */
export function useAccess() {
  return useQuery({
    queryKey: ["session"],
    queryFn: async () => {
      const setup = await call(api.GET("/setup"));
      if (setup.needed) return { state: "setup" as const };
      try {
        return { state: "in" as const, identity: await call(api.GET("/session")) };
      } catch (error) {
        if (error instanceof ApiError && error.problem.status === 401) return { state: "out" as const };
        throw error;
      }
    },
    staleTime: 60_000,
  });
}

const list = { refetchInterval: 4000 };

export const useVms = () =>
  useQuery({
    queryKey: ["vms"],
    queryFn: () => all((query) => api.GET("/vms", { params: { query } })),
    ...list,
  });

export const useVm = (id: string) =>
  useQuery({
    queryKey: ["vms", id],
    queryFn: () => call(api.GET("/vms/{id}", { params: { path: { id } } })),
    ...list,
  });

export const useImages = () =>
  useQuery({
    queryKey: ["images"],
    queryFn: () => all((query) => api.GET("/images", { params: { query } })),
    refetchInterval: 5000,
  });

export const useNetworks = () =>
  useQuery({
    queryKey: ["networks"],
    queryFn: () => all((query) => api.GET("/networks", { params: { query } })),
    staleTime: 10_000,
  });

export const useHosts = () =>
  useQuery({
    queryKey: ["hosts"],
    queryFn: () => all((query) => api.GET("/hosts", { params: { query } })),
    refetchInterval: 10_000,
  });

export const useTasks = () =>
  useQuery({
    queryKey: ["tasks"],
    queryFn: async () => (await call(api.GET("/tasks", { params: { query: { limit: 20 } } }))).items,
    ...list,
  });

export const useEvents = () =>
  useQuery({
    queryKey: ["events"],
    queryFn: async () => (await call(api.GET("/events", { params: { query: { limit: 100 } } }))).items,
    ...list,
  });

/** A task until it has ended. */
export const useTask = (id: string) =>
  useQuery({
    queryKey: ["tasks", id],
    queryFn: () => call(api.GET("/tasks/{id}", { params: { path: { id } } })),
    refetchInterval: (query) => (query.state.data && query.state.data.state !== "running" ? false : 500),
  });

/** Orders something to be done to a machine. */
export function useAction() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ vm, action }: { vm: Vm; action: Action }) => {
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
    },
    onSettled: () => client.invalidateQueries({ queryKey: ["vms"] }),
  });
}
