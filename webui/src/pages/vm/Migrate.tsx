// Moving a machine to another host: which hosts can take it, and why the others cannot.
import { useMutation, useQuery } from "@tanstack/react-query";
import { useId, useState } from "react";
import { api, call, type Verdict, type Vm } from "../../api/client";
import { FormDialog } from "../../components/Dialog";
import { useFollow } from "../../components/shell/Orders";
import { Failure, Loading, cx } from "../../components/ui";
import { atRest } from "../../lib/moves";

/** The value of the choice that leaves it to the cluster. */
const BEST = "";

export function Migrate({ vm, onClose }: { vm: Vm; onClose: () => void }) {
  const follow = useFollow();
  const name = useId();
  const [chosen, setChosen] = useState(BEST);
  const decision = useQuery({
    queryKey: ["placement", vm.meta.id],
    queryFn: () =>
      call(api.POST("/placement", { body: { vm: vm.meta.id, labels: vm.meta.labels, spec: vm.spec } })),
    // Asked anew each time it is opened: others move, too.
    gcTime: 0,
    staleTime: 0,
  });
  const migrate = useMutation({
    mutationFn: () =>
      call(
        api.POST("/vms/{id}/migrate", {
          params: { path: { id: vm.meta.id } },
          body: chosen === BEST ? {} : { host: chosen },
        }),
      ),
    onSuccess: (task) => {
      follow(`Migrate ${vm.meta.name}`, task);
      onClose();
    },
  });
  const hosts = (decision.data?.hosts ?? []).filter(({ host }) => host !== vm.status.host);
  const best = decision.data?.host;
  const none = decision.data && best == null ? "No host can take it." : undefined;
  return (
    <FormDialog
      title={`Migrate ${vm.meta.name}`}
      verb="Migrate"
      busy={migrate.isPending}
      error={migrate.error}
      refusal={decision.isPending ? "Still looking for hosts." : none}
      onSubmit={() => migrate.mutate()}
      onClose={onClose}
    >
      <p>
        {atRest(vm)
          ? "It does not run: it becomes the other host's at once."
          : "It goes on running; it stands still for a moment when it changes hands. Until then it can be cancelled in the task pane."}
      </p>
      {Boolean(decision.error) && <Failure error={decision.error} />}
      {decision.isPending && <Loading />}
      {decision.data && (
        <fieldset className="flex flex-col gap-1">
          <legend className="mb-1 font-medium">To</legend>
          <Choice
            name={name}
            label="The host that fits best"
            detail={hosts.find(({ host }) => host === best)?.name ?? "There is none."}
            checked={chosen === BEST}
            refused={best == null}
            onChoose={() => setChosen(BEST)}
          />
          {hosts.map((verdict: Verdict) => (
            <Choice
              key={verdict.host}
              name={name}
              label={verdict.name}
              detail={verdict.reasons.join("; ")}
              checked={chosen === verdict.host}
              refused={verdict.score == null}
              onChoose={() => setChosen(verdict.host)}
            />
          ))}
        </fieldset>
      )}
    </FormDialog>
  );
}

function Choice({
  name,
  label,
  detail,
  checked,
  refused,
  onChoose,
}: {
  name: string;
  label: string;
  detail: string;
  checked: boolean;
  refused: boolean;
  onChoose: () => void;
}) {
  const about = useId();
  return (
    <label className={cx("flex items-start gap-3 rounded-md p-2", refused ? "text-dim" : "hover:bg-sunken")}>
      <input
        type="radio"
        className="mt-1 flex-none"
        name={name}
        checked={checked}
        disabled={refused}
        aria-describedby={about}
        onChange={onChoose}
      />
      <span className="min-w-0">
        <span className="block">{label}</span>
        <span id={about} className="block text-sm wrap-anywhere text-dim">
          {detail}
        </span>
      </span>
    </label>
  );
}
