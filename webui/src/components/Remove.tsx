// Deleting an object that is destroyed by it: asked by its name.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import type { Task } from "../api/client";
import { Confirm } from "./Dialog";
import { useFollow } from "./shell/Orders";

export function Remove({
  name,
  list,
  work,
  onClose,
  children,
}: {
  name: string;
  /** The list it is in. */
  list: string;
  work: () => Promise<Task | undefined>;
  onClose: () => void;
  children: ReactNode;
}) {
  const client = useQueryClient();
  const follow = useFollow();
  const remove = useMutation({
    mutationFn: work,
    onSuccess: (task) => {
      follow(`Delete ${name}`, task ?? "done");
      onClose();
    },
    onSettled: () => client.invalidateQueries({ queryKey: [list] }),
  });
  return (
    <Confirm
      title={`Delete ${name}?`}
      verb="Delete"
      name={name}
      busy={remove.isPending}
      error={remove.error}
      onConfirm={() => remove.mutate()}
      onClose={onClose}
    >
      {children}
    </Confirm>
  );
}
