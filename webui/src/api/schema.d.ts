// Shape of the part of `/api/v1` this page uses, in the form openapi-typescript gives.
// `npm run types` replaces this file from ../api/openapi.json.

type Id = { path: { id: string } };
type Json<T> = { content: { "application/json": T } };
type Failure = { content: { "application/problem+json": components["schemas"]["Problem"] } };
type List = { query?: { limit?: number; cursor?: string; name?: string; label?: string } };
interface Answers<Status extends number, Body> {
  parameters: object;
  responses: { [S in Status]: Json<Body> } & { default: Failure };
}
type Page<T> = { items: T[]; next_cursor?: string; revision: number };
type Get<T> = Answers<200, T>;
type GetOne<T> = Get<T> & { parameters: Id };
type GetList<T> = Get<Page<T>> & { parameters: List };
type Post<B, Status extends number, T> = Answers<Status, T> & { requestBody: Json<B> };
type Order = Answers<202, components["schemas"]["Task"]> & { parameters: Id };
type Delete = Answers<204, never> & { parameters: Id };

export interface paths {
  "/api/v1/setup": {
    get: Get<components["schemas"]["Setup"]>;
    post: Post<components["schemas"]["SetupRequest"], 200, components["schemas"]["Session"]>;
  };
  "/api/v1/session": {
    get: Get<components["schemas"]["Identity"]>;
    post: Post<components["schemas"]["Login"], 200, components["schemas"]["Session"]>;
    delete: Answers<204, never>;
  };
  "/api/v1/hosts": { get: GetList<components["schemas"]["Host"]> };
  "/api/v1/vms": {
    get: GetList<components["schemas"]["Vm"]>;
    post: Post<components["schemas"]["CreateVm"], 201, components["schemas"]["Vm"]>;
  };
  "/api/v1/vms/{id}": { get: GetOne<components["schemas"]["Vm"]>; delete: Order };
  "/api/v1/vms/{id}/start": { post: Order };
  "/api/v1/vms/{id}/stop": { post: Order & { requestBody: Json<components["schemas"]["StopVm"]> } };
  "/api/v1/vms/{id}/reset": { post: Order };
  "/api/v1/vms/{id}/pause": { post: Order };
  "/api/v1/vms/{id}/resume": { post: Order };
  "/api/v1/images": {
    get: GetList<components["schemas"]["Image"]>;
    post: Post<components["schemas"]["CreateImage"], 201, components["schemas"]["Image"]>;
  };
  "/api/v1/images/{id}": { delete: Delete };
  "/api/v1/volumes": {
    post: Post<components["schemas"]["CreateVolume"], 201 | 202, components["schemas"]["Volume"]>;
  };
  "/api/v1/volumes/{id}": { get: GetOne<components["schemas"]["Volume"]>; delete: Delete };
  "/api/v1/networks": { get: GetList<components["schemas"]["Network"]> };
  "/api/v1/tasks": { get: GetList<components["schemas"]["Task"]> };
  "/api/v1/tasks/{id}": { get: GetOne<components["schemas"]["Task"]> };
  "/api/v1/tasks/{id}/cancel": { post: Delete };
  "/api/v1/events": { get: GetList<components["schemas"]["Event"]> };
}

export interface components {
  schemas: {
    Metadata: {
      id: string;
      name: string;
      labels?: Record<string, string>;
      generation: number;
      revision: number;
      created_at: string;
    };
    Problem: {
      type: string;
      title: string;
      status: number;
      detail: string;
      errors?: components["schemas"]["FieldError"][];
      request_id?: string;
    };
    FieldError: { field: string; reason: string };
    Setup: { needed: boolean };
    SetupRequest: { code: string; password: string };
    Login: { username: string; password: string };
    Session: { token: string; username: string; expires_at: string };
    Identity: { username: string; by: string; expires_at?: string };
    Host: {
      meta: components["schemas"]["Metadata"];
      status?: {
        version: string;
        kernel: string;
        booted_at: string;
        simulated: boolean;
        warnings?: string[];
        cpu: { model: string; threads: number; usage: number };
        memory: { total_bytes: number; available_bytes: number };
        virtualization: { available: boolean; reason?: string };
      };
    };
    Boot: { kernel: string; initrd?: string; cmdline?: string };
    VmSpec: {
      vcpus: number;
      memory_bytes: number;
      boot?: components["schemas"]["Boot"];
      disks?: { volume: string; read_only?: boolean }[];
      nics?: { network: string; mac?: string }[];
      rng?: boolean;
      restart?: "never" | "on-failure" | "always";
      autostart?: boolean;
      power?: "stopped" | "running" | "paused";
    };
    Vm: {
      meta: components["schemas"]["Metadata"];
      spec: components["schemas"]["VmSpec"];
      status: {
        state: "stopped" | "starting" | "running" | "paused" | "stopping" | "failed";
        reason?: string;
        host?: string;
        started_at?: string;
        restarts?: number;
        addresses?: string[];
      };
    };
    CreateVm: { name: string; labels?: Record<string, string>; spec: components["schemas"]["VmSpec"] };
    StopVm: { force?: boolean; timeout_seconds?: number };
    ImageSpec: {
      kind: "disk" | "kernel" | "initrd";
      format: "raw" | "qcow2";
      pool?: string;
      sha256?: string;
      boot?: components["schemas"]["Boot"];
    };
    Image: {
      meta: components["schemas"]["Metadata"];
      spec: components["schemas"]["ImageSpec"];
      status: {
        state: "pending" | "uploading" | "ready";
        reason?: string;
        size_bytes?: number;
        virtual_size_bytes?: number;
        sha256?: string;
      };
    };
    CreateImage: { name: string; labels?: Record<string, string>; spec: components["schemas"]["ImageSpec"] };
    VolumeSpec: { size_bytes?: number; pool?: string; format?: "raw" | "qcow2"; source?: string };
    Volume: {
      meta: components["schemas"]["Metadata"];
      spec: components["schemas"]["VolumeSpec"];
      status: {
        state: "creating" | "ready" | "deleting" | "failed";
        reason?: string;
        size_bytes?: number;
        attached_to?: string;
      };
    };
    CreateVolume: { name: string; labels?: Record<string, string>; spec: components["schemas"]["VolumeSpec"] };
    Network: { meta: components["schemas"]["Metadata"]; spec: { kind: "bridged"; dhcp?: { subnet: string } } };
    Task: {
      id: string;
      kind: string;
      target: string;
      actor: string;
      state: "running" | "succeeded" | "failed" | "cancelled";
      progress?: number;
      message?: string;
      created_at: string;
      ended_at?: string;
    };
    Event: {
      id: string;
      at: string;
      level: "info" | "warning" | "error";
      kind: string;
      target: string;
      message: string;
      actor?: string;
    };
  };
}
