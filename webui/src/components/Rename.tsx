// Name and labels of an object.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { fieldFault } from "../api/client";
import { labelsText, parseLabels, type Labels } from "../lib/labels";
import { FormDialog } from "./Dialog";
import { LabelsField } from "./Labels";
import { Text } from "./ui";

export function Rename({
  object,
  list,
  work,
  onClose,
}: {
  object: { meta: { name: string; labels?: Labels } };
  /** The list it is in. */
  list: string;
  work: (change: { name: string; labels: Labels }) => Promise<unknown>;
  onClose: () => void;
}) {
  const client = useQueryClient();
  const [name, setName] = useState(object.meta.name);
  const [labels, setLabels] = useState(labelsText(object.meta.labels));
  const save = useMutation({
    mutationFn: () => work({ name: name.trim(), labels: parseLabels(labels) }),
    onSuccess: onClose,
    onSettled: () => client.invalidateQueries({ queryKey: [list] }),
  });
  const fault = (field: string) => fieldFault(save.error, field);
  return (
    <FormDialog
      title={`Name and labels of ${object.meta.name}`}
      verb="Save"
      busy={save.isPending}
      error={save.error}
      onSubmit={() => save.mutate()}
      onClose={onClose}
    >
      <Text
        label="Name"
        value={name}
        fault={fault("name")}
        onChange={(event) => setName(event.target.value)}
      />
      <LabelsField value={labels} fault={fault("labels")} onValue={setLabels} />
    </FormDialog>
  );
}
