// A new certificate for a host's API and page: asked by the host's name, because who trusts the old one has to look at the new.
import { useMutation } from "@tanstack/react-query";
import { api, call, type Host } from "../api/client";
import { Confirm, Dialog } from "./Dialog";
import { Button } from "./ui";

export function NewCertificate({ host, onClose }: { host: Host; onClose: () => void }) {
  const { id, name } = host.meta;
  const renew = useMutation({
    mutationFn: () =>
      call(api.POST("/hosts/{id}/certificate", { params: { path: { id } }, body: { confirm: name } })),
  });
  if (renew.isSuccess)
    return (
      <Dialog title={`${name} makes a new certificate`} onClose={onClose}>
        <p>
          Its daemon starts again with it, which takes some seconds. Its console shows the new SHA-256
          fingerprint: compare it with what your browser shows.
        </p>
        <p>If this page comes from {name}, load it again to see the browser’s question.</p>
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>Close</Button>
          <Button kind="primary" onClick={() => location.reload()}>
            Load the page again
          </Button>
        </div>
      </Dialog>
    );
  return (
    <Confirm
      title={`New certificate for ${name}?`}
      verb="Make a new one"
      name={name}
      busy={renew.isPending}
      error={renew.error}
      onConfirm={() => renew.mutate()}
      onClose={onClose}
    >
      <p>
        Browsers and programs that trust the old certificate warn or refuse until they are shown the new one.
        Machines and sessions go on.
      </p>
      {host.status?.certificate && (
        <p>
          The old one: <code className="wrap-anywhere">{host.status.certificate.fingerprint}</code>
        </p>
      )}
    </Confirm>
  );
}
