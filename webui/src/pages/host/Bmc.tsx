// The BMC of a host: what proves that the host is off when it is lost. Shown also of a host that cannot be asked.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Activity, Pencil, Trash2 } from "lucide-react";
import { useState } from "react";
import { api, call, fieldFault, type Bmc, type BmcTest } from "../../api/client";
import { useClusterRefusal } from "../../api/rights";
import { Confirm, FormDialog } from "../../components/Dialog";
import {
  Button,
  Card,
  Fact,
  Facts,
  Failure,
  Loading,
  Select,
  State,
  Text,
  Warning,
} from "../../components/ui";
import { bmcForm, fingerprintText, protocols, setBmc, type BmcForm, type BmcProtocol } from "../../lib/bmc";
import { time } from "../../lib/format";
import { useHostId } from "./Layout";

export function HostBmc() {
  const id = useHostId();
  const refusal = useClusterRefusal()("cluster.write");
  if (refusal)
    return (
      <Card title="BMC">
        <p className="text-dim">{refusal}</p>
      </Card>
    );
  return <Settings key={id} id={id} />;
}

function Settings({ id }: { id: string }) {
  const client = useQueryClient();
  const [open, setOpen] = useState<"change" | "clear">();
  const path = { params: { path: { id } } };
  const bmc = useQuery({
    queryKey: ["host-bmc", id],
    queryFn: () => call(api.GET("/hosts/{id}/bmc", path)),
    refetchInterval: 15_000,
  });
  const test = useMutation({
    mutationFn: () => call(api.POST("/hosts/{id}/bmc/test", { ...path, body: {} })),
    onSettled: () => client.invalidateQueries({ queryKey: ["host-bmc", id] }),
  });
  const clear = useMutation({
    mutationFn: () => call(api.DELETE("/hosts/{id}/bmc", path)),
    onSuccess: () => {
      test.reset();
      setOpen(undefined);
    },
    onSettled: () => client.invalidateQueries({ queryKey: ["host-bmc", id] }),
  });
  const spec = bmc.data?.spec;
  return (
    <Card
      title="BMC"
      actions={
        bmc.data && (
          <>
            {spec && (
              <Button small icon={Activity} busy={test.isPending} onClick={() => test.mutate()}>
                Test
              </Button>
            )}
            {spec && (
              <Button small icon={Trash2} onClick={() => (clear.reset(), setOpen("clear"))}>
                Clear
              </Button>
            )}
            <Button small icon={Pencil} onClick={() => setOpen("change")}>
              {spec ? "Change" : "Set"}
            </Button>
          </>
        )
      }
    >
      <div className="flex flex-col gap-4">
        <p>
          The base board management controller tells whether this host is on, and can switch it off, while the
          host itself is silent. With it a lost host is proven to be off, and its protected machines start
          elsewhere sooner. A host that is silent for longer than its lease, but on, is switched off: what is
          not protected on it is lost as in a power cut.
        </p>
        <Failure error={bmc.error} />
        {bmc.isPending && <Loading />}
        {bmc.data && <Standing bmc={bmc.data} />}
        <Failure error={test.error} />
        {test.data && <Tested test={test.data} />}
      </div>
      {open === "change" && bmc.data && (
        <Change id={id} bmc={bmc.data} onClose={() => setOpen(undefined)} onSaved={() => test.reset()} />
      )}
      {open === "clear" && (
        <Confirm
          title="Forget the BMC of this host?"
          verb="Clear"
          busy={clear.isPending}
          error={clear.error}
          onConfirm={() => clear.mutate()}
          onClose={() => setOpen(undefined)}
        >
          If the host is lost, its machines wait until their leases are over.
        </Confirm>
      )}
    </Card>
  );
}

function Standing({ bmc: { spec, status } }: { bmc: Bmc }) {
  if (!spec) return <p className="text-dim">This host has none set.</p>;
  return (
    <>
      {status?.failure && (
        <Warning>
          {status.failing_since && `Since ${time(status.failing_since)}: `}
          {status.failure}
        </Warning>
      )}
      <Facts>
        <Fact name="Protocol">{protocols[spec.protocol ?? "redfish"].name}</Fact>
        <Fact name="Address">{spec.address}</Fact>
        <Fact name="User">{spec.username}</Fact>
        <Fact name="System">{spec.system}</Fact>
        <Fact name="Certificate">
          {spec.certificate && <code className="break-all">{fingerprintText(spec.certificate)}</code>}
        </Fact>
        <Fact name="Power">
          {status?.power ? (
            <State state={status.power === "on" ? "up" : "down"} word={status.power} />
          ) : (
            "not known"
          )}
        </Fact>
        <Fact name="Last asked">{status ? time(status.checked_at) : "not yet"}</Fact>
      </Facts>
    </>
  );
}

function Tested({ test, onTrust }: { test: BmcTest; onTrust?: (fingerprint: string) => void }) {
  const { presented } = test;
  return (
    <div role="status" aria-label="Result of the test" className="flex flex-col gap-3">
      {test.failure && <Warning>{test.failure}</Warning>}
      <Facts>
        <Fact name="Host is">
          {test.power && <State state={test.power === "on" ? "up" : "down"} word={test.power} />}
        </Fact>
        <Fact name="Machine">{test.machine && `${test.machine}. Is it the right one?`}</Fact>
        <Fact name="It presents">{presented && <code className="break-all">{presented}</code>}</Fact>
      </Facts>
      {presented && onTrust && (
        <div>
          <Button small onClick={() => onTrust(presented)}>
            I have compared it: trust this certificate
          </Button>
        </div>
      )}
    </div>
  );
}

function Change({
  id,
  bmc,
  onSaved,
  onClose,
}: {
  id: string;
  bmc: Bmc;
  onSaved: () => void;
  onClose: () => void;
}) {
  const client = useQueryClient();
  const [form, setForm] = useState(() => bmcForm(bmc.spec ?? undefined));
  const path = { params: { path: { id } } };
  const test = useMutation({
    mutationFn: () => call(api.POST("/hosts/{id}/bmc/test", { ...path, body: { settings: setBmc(form) } })),
  });
  const save = useMutation({
    mutationFn: () => call(api.PUT("/hosts/{id}/bmc", { ...path, body: setBmc(form) })),
    onSuccess: (now) => {
      client.setQueryData(["host-bmc", id], now);
      onSaved();
      onClose();
    },
  });
  const set = (change: Partial<BmcForm>) => {
    save.reset();
    test.reset();
    setForm({ ...form, ...change });
  };
  const fault = (field: string) => fieldFault(save.error ?? test.error, field);
  const { port, hasCertificate } = protocols[form.protocol];
  return (
    <FormDialog
      title="Set the BMC of this host"
      verb="Save"
      wide
      busy={save.isPending}
      error={save.error ?? test.error}
      onSubmit={() => save.mutate()}
      onClose={onClose}
    >
      <div className="grid gap-4 sm:grid-cols-2">
        <Select
          label="Protocol"
          hint={
            hasCertificate
              ? undefined
              : "Weaker than Redfish: whoever reaches its port can try passwords on what it answers. Let only hosts reach it, and give it a long random password of its own."
          }
          options={Object.entries(protocols).map(([value, { name }]) => [value, name] as const)}
          value={form.protocol}
          fault={fault("spec.protocol")}
          onValue={(protocol) => set({ protocol: protocol as BmcProtocol })}
        />
        <Text
          label="Address"
          hint={`A name or an address, with a port where it is not ${port}.`}
          placeholder="10.0.9.13"
          value={form.address}
          fault={fault("spec.address")}
          onChange={({ target }) => set({ address: target.value })}
        />
        <Text
          label="User"
          hint={
            hasCertificate ? "May see and switch the power." : "At most 16 bytes, with the level OPERATOR."
          }
          value={form.username}
          fault={fault("spec.username")}
          onChange={({ target }) => set({ username: target.value })}
        />
        <Text
          label="Password"
          type="password"
          autoComplete="new-password"
          hint={hasCertificate ? undefined : "At most 20 bytes."}
          placeholder={bmc.spec ? "as it is" : ""}
          value={form.password}
          fault={fault("password")}
          onChange={({ target }) => set({ password: target.value })}
        />
      </div>
      {hasCertificate && (
        <>
          <Text
            label="System"
            hint="Only where the BMC manages several machines: the id of this one."
            value={form.system}
            fault={fault("spec.system")}
            onChange={({ target }) => set({ system: target.value })}
          />
          <Text
            label="Certificate"
            hint="SHA-256 of the one the BMC presents. Test without it to see it; no password is sent to a certificate that is not set."
            value={form.certificate}
            fault={fault("spec.certificate")}
            onChange={({ target }) => set({ certificate: target.value })}
          />
        </>
      )}
      <div>
        <Button icon={Activity} busy={test.isPending} onClick={() => (save.reset(), test.mutate())}>
          Test
        </Button>
      </div>
      {test.data && (
        <Tested
          test={test.data}
          onTrust={(certificate) => set({ certificate: fingerprintText(certificate) })}
        />
      )}
    </FormDialog>
  );
}
