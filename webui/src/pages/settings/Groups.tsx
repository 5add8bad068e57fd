// Groups of users with common grants.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Pencil, Plus, Trash2, UsersRound } from "lucide-react";
import { useMemo, useState } from "react";
import { api, call, fieldFault, type Group } from "../../api/client";
import { useGroups, useUsers } from "../../api/queries";
import { useClusterRefusal } from "../../api/rights";
import { FormDialog } from "../../components/Dialog";
import { Remove } from "../../components/Remove";
import { ListView } from "../../components/list/ListView";
import type { Column } from "../../components/list/useList";
import { Button, Check, Menu, Text } from "../../components/ui";
import { fault, fromForm, toForm, type GrantForm } from "../../lib/grants";
import { GrantsEditor, useGrantWords } from "./Grants";

const id = (group: Group) => group.meta.id;
const name = (group: Group) => group.meta.name;

type Doing = { what: "edit" | "delete"; group: Group } | { what: "create" };

export function Groups() {
  const groups = useGroups();
  const users = useUsers().data;
  const words = useGrantWords();
  const refusal = useClusterRefusal()("user.write");
  const [doing, setDoing] = useState<Doing>();
  const close = () => setDoing(undefined);
  const columns = useMemo((): Column<Group>[] => {
    const named = new Map(users?.map(({ meta }) => [meta.id, meta.name]));
    return [
      { id: "name", label: "Name", value: name },
      {
        id: "description",
        label: "For",
        value: ({ spec }) => spec.description || undefined,
        width: "w-[22%]",
      },
      {
        id: "members",
        label: "Members",
        value: ({ spec }) => spec.members?.map((member) => named.get(member) ?? "?").join(", ") || undefined,
        width: "w-[26%]",
        narrow: true,
      },
      {
        id: "may",
        label: "May",
        value: ({ spec }) => spec.grants?.map(words).join("; ") || undefined,
        width: "w-[28%]",
      },
    ];
  }, [users, words]);
  return (
    <>
      <ListView
        nouns="groups"
        icon={UsersRound}
        query={groups}
        columns={columns}
        id={id}
        name={name}
        order="name"
        brief={({ spec }) => spec.grants?.map(words).join("; ")}
        toolbar={
          <Button kind="primary" icon={Plus} refusal={refusal} onClick={() => setDoing({ what: "create" })}>
            Create group
          </Button>
        }
        actions={(group) => (
          <Menu
            label={`Actions for ${group.meta.name}`}
            items={[
              { label: "Change", icon: Pencil, refusal, run: () => setDoing({ what: "edit", group }) },
              {
                label: "Delete",
                icon: Trash2,
                danger: true,
                apart: true,
                refusal,
                run: () => setDoing({ what: "delete", group }),
              },
            ]}
          />
        )}
        empty={<p>Users with the same duties share their roles in a group.</p>}
      />
      {doing?.what === "create" && <Edit onClose={close} />}
      {doing?.what === "edit" && <Edit group={doing.group} onClose={close} />}
      {doing?.what === "delete" && (
        <Remove
          name={name(doing.group)}
          list="groups"
          work={async () => {
            await call(api.DELETE("/groups/{id}", { params: { path: { id: id(doing.group) } } }));
            return undefined;
          }}
          onClose={close}
        >
          <p>Its members stay, without what it granted.</p>
        </Remove>
      )}
    </>
  );
}

function Edit({ group, onClose }: { group?: Group; onClose: () => void }) {
  const client = useQueryClient();
  const users = useUsers().data ?? [];
  const [label, setLabel] = useState(group?.meta.name ?? "");
  const [description, setDescription] = useState(group?.spec.description ?? "");
  const [members, setMembers] = useState<ReadonlySet<string>>(new Set(group?.spec.members));
  const [grants, setGrants] = useState<GrantForm[]>(toForm(group?.spec.grants));
  const [faults, setFaults] = useState<(string | undefined)[]>([]);
  const save = useMutation({
    mutationFn: () => {
      const body = {
        name: label.trim(),
        spec: { description: description.trim(), members: [...members], grants: fromForm(grants) },
      };
      return group
        ? call(
            api.PATCH("/groups/{id}", {
              params: { path: { id: group.meta.id } },
              headers: { "If-Match": `"${group.meta.revision}"` },
              body,
            }),
          )
        : call(api.POST("/groups", { body }));
    },
    onSuccess: onClose,
    onSettled: () => {
      void client.invalidateQueries({ queryKey: ["groups"] });
      void client.invalidateQueries({ queryKey: ["users"] });
    },
  });
  const at = (field: string) => fieldFault(save.error, field);
  const toggle = (user: string, on: boolean) => {
    const next = new Set(members);
    if (on) next.add(user);
    else next.delete(user);
    setMembers(next);
  };
  return (
    <FormDialog
      title={group ? `Group ${group.meta.name}` : "Create group"}
      verb={group ? "Save" : "Create group"}
      wide
      busy={save.isPending}
      error={save.error}
      onSubmit={() => {
        const found = grants.map(fault);
        setFaults(found);
        if (found.every((each) => each === undefined)) save.mutate();
      }}
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
      <fieldset className="max-h-52 overflow-auto rounded-md border border-line p-3">
        <legend className="px-1 font-medium">Members</legend>
        <div className="grid gap-1.5 sm:grid-cols-2">
          {users.map(({ meta, spec }) => (
            <Check
              key={meta.id}
              checked={members.has(meta.id)}
              onChange={(event) => toggle(meta.id, event.target.checked)}
            >
              {meta.name}
              {spec.full_name && <span className="text-dim"> {spec.full_name}</span>}
            </Check>
          ))}
        </div>
      </fieldset>
      <GrantsEditor value={grants} faults={faults} onValue={setGrants} />
    </FormDialog>
  );
}
