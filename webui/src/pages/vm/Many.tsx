// What is done to many machines beside power: moving them, and their labels.
import { useState } from "react";
import { api, call, type Vm } from "../../api/client";
import { useHosts } from "../../api/queries";
import { useRefusal } from "../../api/rights";
import { Bulk } from "../../components/Bulk";
import { Select, Text } from "../../components/ui";
import { changedLabels, parseLabels } from "../../lib/labels";
import { moveRefusal } from "../../lib/moves";
import { settle } from "../../lib/settle";

const name = (vm: Vm) => vm.meta.name;

function useDenied() {
  const denied = useRefusal();
  return ({ meta }: Vm) => denied("vm.write", { kind: "vm", id: meta.id, labels: meta.labels });
}

export function MigrateMany({ vms, onClose }: { vms: Vm[]; onClose: () => void }) {
  const hosts = useHosts().data ?? [];
  const denied = useDenied();
  const [host, setHost] = useState("");
  return (
    <Bulk
      title={`Migrate: ${vms.length} virtual machines`}
      verb="Migrate"
      items={vms}
      name={name}
      refusal={(vm) => denied(vm) ?? moveRefusal(vm, hosts.length)}
      work={async (vm) => {
        if (host && vm.status.host === host) return;
        const body = host ? { host } : {};
        await settle(
          await call(api.POST("/vms/{id}/migrate", { params: { path: { id: vm.meta.id } }, body })),
        );
      }}
      onClose={onClose}
    >
      <Select
        label="To"
        value={host}
        none="The host that fits each best"
        options={hosts.filter(({ witness }) => !witness).map(({ meta }) => [meta.id, meta.name])}
        hint="Those that are there already stay."
        onValue={setHost}
      />
    </Bulk>
  );
}

export function LabelMany({ vms, onClose }: { vms: Vm[]; onClose: () => void }) {
  const denied = useDenied();
  const [set, setSet] = useState("");
  const [away, setAway] = useState("");
  return (
    <Bulk
      title={`Labels: ${vms.length} virtual machines`}
      verb="Change"
      items={vms}
      name={name}
      refusal={denied}
      doubt={set.trim() || away.trim() ? undefined : "Say which labels to set or to take away."}
      work={({ meta }) =>
        call(
          api.PATCH("/vms/{id}", {
            params: { path: { id: meta.id } },
            headers: { "If-Match": `"${meta.revision}"` },
            body: {
              labels: changedLabels(meta.labels, parseLabels(set), Object.keys(parseLabels(away))),
            },
          }),
        )
      }
      onClose={onClose}
    >
      <Text
        label="Set"
        hint="Like env=test, team=web. Other labels stay."
        value={set}
        onChange={({ target }) => setSet(target.value)}
      />
      <Text
        label="Take away"
        hint="Their keys, like env, team."
        value={away}
        onChange={({ target }) => setAway(target.value)}
      />
    </Bulk>
  );
}
