// Roles: sets of permissions. The built-in ones stay as they are.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { IdCard, Pencil, Plus, Trash2 } from "lucide-react";
import { useMemo, useState } from "react";
import { api, call, fieldFault, type Role } from "../../api/client";
import { useRoles } from "../../api/queries";
import { useClusterRefusal } from "../../api/rights";
import { FormDialog } from "../../components/Dialog";
import { Remove } from "../../components/Remove";
import { ListView } from "../../components/list/ListView";
import type { Column } from "../../components/list/useList";
import { Button, Check, Failure, Menu, Text } from "../../components/ui";

const id = (role: Role) => role.meta.id;
const name = (role: Role) => role.meta.name;
const COLUMNS: Column<Role>[] = [
  { id: "name", label: "Name", value: name, width: "w-48" },
  {
    id: "kind",
    label: "Kind",
    value: ({ builtin }) => (builtin ? "built in" : "own"),
    width: "w-24",
    narrow: true,
  },
  { id: "description", label: "For", value: ({ spec }) => spec.description || undefined },
  {
    id: "permissions",
    label: "Permissions",
    value: ({ spec }) => spec.permissions.join(", "),
    cell: ({ spec }) => <span title={spec.permissions.join(", ")}>{spec.permissions.join(", ")}</span>,
    width: "w-[40%]",
  },
];

type Doing = { what: "edit" | "delete"; role: Role } | { what: "create" };

export function Roles() {
  const roles = useRoles();
  const refusal = useClusterRefusal()("user.write");
  const [doing, setDoing] = useState<Doing>();
  const close = () => setDoing(undefined);
  return (
    <>
      <ListView
        nouns="roles"
        icon={IdCard}
        query={roles}
        columns={COLUMNS}
        id={id}
        name={name}
        order="name"
        brief={({ spec }) => spec.description}
        toolbar={
          <Button kind="primary" icon={Plus} refusal={refusal} onClick={() => setDoing({ what: "create" })}>
            Create role
          </Button>
        }
        actions={(role) => {
          const why = refusal ?? (role.builtin ? "It is built in." : undefined);
          return (
            <Menu
              label={`Actions for ${role.meta.name}`}
              items={[
                { label: "Change", icon: Pencil, refusal: why, run: () => setDoing({ what: "edit", role }) },
                {
                  label: "Delete",
                  icon: Trash2,
                  danger: true,
                  apart: true,
                  refusal: why,
                  run: () => setDoing({ what: "delete", role }),
                },
              ]}
            />
          );
        }}
        empty={<p>There should be built-in ones.</p>}
      />
      {doing?.what === "create" && <Edit onClose={close} />}
      {doing?.what === "edit" && <Edit role={doing.role} onClose={close} />}
      {doing?.what === "delete" && (
        <Remove
          name={name(doing.role)}
          list="roles"
          work={async () => {
            await call(api.DELETE("/roles/{id}", { params: { path: { id: id(doing.role) } } }));
            return undefined;
          }}
          onClose={close}
        >
          <p>The host refuses while somebody has it.</p>
        </Remove>
      )}
    </>
  );
}

function Edit({ role, onClose }: { role?: Role; onClose: () => void }) {
  const client = useQueryClient();
  const known = useQuery({
    queryKey: ["permissions"],
    queryFn: () => call(api.GET("/permissions")),
    staleTime: Infinity,
  });
  const [label, setLabel] = useState(role?.meta.name ?? "");
  const [description, setDescription] = useState(role?.spec.description ?? "");
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set(role?.spec.permissions));
  const groups = useMemo(() => {
    const found = new Map<string, { name: string; description: string }[]>();
    for (const each of known.data ?? []) {
      const kind = each.name.split(".")[0]!;
      found.set(kind, [...(found.get(kind) ?? []), each]);
    }
    return [...found];
  }, [known.data]);
  const save = useMutation({
    mutationFn: () => {
      type Permissions = Role["spec"]["permissions"];
      const body = {
        name: label.trim(),
        spec: { description: description.trim(), permissions: [...chosen] as Permissions },
      };
      return role
        ? call(
            api.PATCH("/roles/{id}", {
              params: { path: { id: role.meta.id } },
              headers: { "If-Match": `"${role.meta.revision}"` },
              body,
            }),
          )
        : call(api.POST("/roles", { body }));
    },
    onSuccess: onClose,
    onSettled: () => client.invalidateQueries({ queryKey: ["roles"] }),
  });
  const at = (field: string) => fieldFault(save.error, field);
  const toggle = (permission: string, on: boolean) => {
    const next = new Set(chosen);
    if (on) next.add(permission);
    else next.delete(permission);
    setChosen(next);
  };
  return (
    <FormDialog
      title={role ? `Role ${role.meta.name}` : "Create role"}
      verb={role ? "Save" : "Create role"}
      wide
      busy={save.isPending}
      error={save.error}
      refusal={chosen.size === 0 ? "Choose at least one permission." : undefined}
      onSubmit={() => save.mutate()}
      onClose={onClose}
    >
      <Text
        label="Name"
        value={label}
        fault={at("name")}
        onChange={(event) => setLabel(event.target.value)}
      />
      <Text
        label="What it is for"
        value={description}
        fault={at("spec.description")}
        onChange={(event) => setDescription(event.target.value)}
      />
      <Failure error={known.error} />
      {groups.map(([kind, permissions]) => (
        <fieldset key={kind} className="rounded-md border border-line p-3">
          <legend className="px-1 font-medium">{kind}</legend>
          <div className="flex flex-col gap-2">
            {permissions.map((each) => (
              <Check
                key={each.name}
                checked={chosen.has(each.name)}
                hint={each.description}
                onChange={(event) => toggle(each.name, event.target.checked)}
              >
                {each.name}
              </Check>
            ))}
          </div>
        </fieldset>
      ))}
    </FormDialog>
  );
}
