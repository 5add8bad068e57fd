// What is done to the host itself: its certificate, the support bundle with its logs, the factory reset.
import { useMutation } from "@tanstack/react-query";
import { BadgeCheck, Download, Eraser, Usb } from "lucide-react";
import { useState } from "react";
import { api, call, type Host } from "../../api/client";
import { useVms } from "../../api/queries";
import { useClusterRefusal } from "../../api/rights";
import { Confirm } from "../../components/Dialog";
import { NewCertificate } from "../../components/NewCertificate";
import { useFollow } from "../../components/shell/Orders";
import { Button, Card, Fact, Facts, Failure } from "../../components/ui";
import { time } from "../../lib/format";
import { save } from "../../lib/save";
import { WithHost } from "./Layout";
import { Stick } from "./Stick";

export const HostSystem = () => (
  <WithHost>
    {(host) => (
      <div className="grid gap-4 xl:grid-cols-2">
        <Support host={host} />
        <Certificate host={host} />
        <Reset host={host} />
      </div>
    )}
  </WithHost>
);

function Support({ host }: { host: Host }) {
  const { id, name } = host.meta;
  const [stick, setStick] = useState(false);
  const refusal = useClusterRefusal()("cluster.write");
  const bundle = useMutation({
    mutationFn: () =>
      call(api.GET("/hosts/{id}/support-bundle", { params: { path: { id } }, parseAs: "blob" })),
    onSuccess: (content) => save(content as unknown as Blob, `limiquantix-${name}-support.tar.gz`),
  });
  return (
    <Card title="Logs and support bundle">
      <div className="flex flex-col items-start gap-3">
        <p>
          One file with what somebody needs to understand this host without seeing it: its logs, its hardware,
          the objects of the cluster, tasks and events. Passwords, keys and command lines of guests are left
          out.
        </p>
        <Failure error={bundle.error} />
        <div className="flex flex-wrap gap-2">
          <Button icon={Download} refusal={refusal} busy={bundle.isPending} onClick={() => bundle.mutate()}>
            Download
          </Button>
          <Button icon={Usb} refusal={refusal} onClick={() => setStick(true)}>
            Write to a stick
          </Button>
        </div>
      </div>
      {stick && <Stick host={host} onClose={() => setStick(false)} />}
    </Card>
  );
}

function Certificate({ host }: { host: Host }) {
  const [open, setOpen] = useState(false);
  const certificate = host.status?.certificate;
  return (
    <Card title="Certificate">
      <div className="flex flex-col items-start gap-3">
        {certificate ? (
          <Facts>
            <Fact name="SHA-256">
              <code>{certificate.fingerprint}</code>
            </Fact>
            <Fact name="Ends">{certificate.not_after && time(certificate.not_after)}</Fact>
          </Facts>
        ) : (
          <p className="text-dim">The host does not say which it has.</p>
        )}
        <Button
          icon={BadgeCheck}
          refusal={useClusterRefusal()("cluster.write")}
          onClick={() => setOpen(true)}
        >
          New certificate
        </Button>
      </div>
      {open && <NewCertificate host={host} onClose={() => setOpen(false)} />}
    </Card>
  );
}

function Reset({ host }: { host: Host }) {
  const { id, name } = host.meta;
  const [open, setOpen] = useState(false);
  const follow = useFollow();
  const machines = useVms().data?.filter(({ status }) => status.host === id).length ?? 0;
  const reset = useMutation({
    mutationFn: (data: boolean) =>
      call(
        api.POST("/hosts/{id}/factory-reset", { params: { path: { id } }, body: { confirm: name, data } }),
      ),
    onSuccess: () => {
      follow(`Factory reset of ${name}`, "done");
      setOpen(false);
    },
  });
  return (
    <Card title="Factory reset">
      <div className="flex flex-col items-start gap-3">
        <p>
          The host forgets what it has kept (cluster, users, settings) and starts as if it were installed
          anew. Where it is one of several, empty it and remove it from the cluster first.
        </p>
        <Button
          kind="danger"
          icon={Eraser}
          refusal={useClusterRefusal()("cluster.write")}
          onClick={() => (reset.reset(), setOpen(true))}
        >
          Factory reset
        </Button>
      </div>
      {open && (
        <Confirm
          title={`Reset ${name} to its factory settings?`}
          verb="Reset"
          name={name}
          option={{ label: "Erase its images and volumes too" }}
          busy={reset.isPending}
          error={reset.error}
          onConfirm={(data) => reset.mutate(data)}
          onClose={() => setOpen(false)}
        >
          <p>
            {machines === 0
              ? "No machine is on it."
              : machines === 1
                ? "One machine is on it: it is stopped, and the host does not know it any more."
                : `${machines} machines are on it: they are stopped, and the host does not know them any more.`}
          </p>
          <p>This cannot be undone.</p>
        </Confirm>
      )}
    </Card>
  );
}
