// What the pages know of the host: one query per kind of object, looked at again while someone watches.
import { QueryCache, QueryClient, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import type { Action } from "../lib/actions";
import { ApiError, all, api, call, type Vm } from "./client";

export const queryClient: QueryClient = new QueryClient({
  queryCache: new QueryCache({
    onError: (error, query) => {
      // The session ended: whoever notices first sends everyone to the log-in page.
      if (error instanceof ApiError && error.problem.status === 401 && query.queryKey[0] !== "session")
        void queryClient.invalidateQueries({ queryKey: ["session"] });
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

/** Set-up state and identity: decides between set-up, log-in and the rest. */
export function useAccess() {
  return useQuery({
    queryKey: ["session"],
    queryFn: async () => {
      const setup = await call(api.GET("/api/v1/setup"));
      if (setup.needed) return { state: "setup" as const };
      try {
        return { state: "in" as const, identity: await call(api.GET("/api/v1/session")) };
      } catch (error) {
        if (error instanceof ApiError && error.problem.status === 401) return { state: "out" as const };
        throw error;
      }
    },
    staleTime: 60_000,
  });
}

const list = { refetchInterval: 2000 };

export const useVms = () =>
  useQuery({
    queryKey: ["vms"],
    queryFn: () => all((query) => api.GET("/api/v1/vms", { params: { query } })),
    ...list,
  });

export const useVm = (id: string) =>
  useQuery({
    queryKey: ["vms", id],
    queryFn: () => call(api.GET("/api/v1/vms/{id}", { params: { path: { id } } })),
    ...list,
  });

export const useImages = () =>
  useQuery({
    queryKey: ["images"],
    queryFn: () => all((query) => api.GET("/api/v1/images", { params: { query } })),
    refetchInterval: 5000,
  });

export const useNetworks = () =>
  useQuery({
    queryKey: ["networks"],
    queryFn: () => all((query) => api.GET("/api/v1/networks", { params: { query } })),
    staleTime: 10_000,
  });

export const useHosts = () =>
  useQuery({
    queryKey: ["hosts"],
    queryFn: () => all((query) => api.GET("/api/v1/hosts", { params: { query } })),
    refetchInterval: 10_000,
  });

export const useTasks = () =>
  useQuery({
    queryKey: ["tasks"],
    queryFn: () => all((query) => api.GET("/api/v1/tasks", { params: { query } })),
    ...list,
  });

export const useEvents = () =>
  useQuery({
    queryKey: ["events"],
    queryFn: async () => (await call(api.GET("/api/v1/events", { params: { query: { limit: 100 } } }))).items,
    ...list,
  });

/** A task until it has ended. */
export const useTask = (id: string) =>
  useQuery({
    queryKey: ["tasks", id],
    queryFn: () => call(api.GET("/api/v1/tasks/{id}", { params: { path: { id } } })),
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
          return call(
            api.POST("/api/v1/vms/{id}/stop", { ...params, body: { force: false, timeout_seconds: 90 } }),
          );
        case "force-stop":
          return call(
            api.POST("/api/v1/vms/{id}/stop", { ...params, body: { force: true, timeout_seconds: 90 } }),
          );
        case "delete":
          return call(api.DELETE("/api/v1/vms/{id}", params));
        default:
          return call(api.POST(`/api/v1/vms/{id}/${action}`, params));
      }
    },
    onSettled: () => client.invalidateQueries({ queryKey: ["vms"] }),
  });
}
