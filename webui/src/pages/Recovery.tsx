// What is left when the majority is gone: what that means, forming the cluster anew, backups of its state.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Archive, Download, LifeBuoy, RotateCcw } from "lucide-react";
import { useState } from "react";
import {
  api,
  call,
  type QuorumLoss,
  type ReformHost,
  type ReformPreview,
  type StateBackup,
} from "../api/client";
import { useCluster } from "../api/queries";
import { useClusterRefusal } from "../api/rights";
import { Confirm, Dialog } from "../components/Dialog";
import { useFollow } from "../components/shell/Orders";
import {
  Button,
  Card,
  Check,
  Empty,
  Fact,
  Facts,
  Failure,
  Field,
  Loading,
  Select,
  Warning,
} from "../components/ui";
import { bytes, time } from "../lib/format";
import { save } from "../lib/save";
import { lostAtFirst, reformRefusal } from "../lib/recovery";

/** What is lost, in the words of the host, and the way out. */
export function LostQuorum({ loss }: { loss: QuorumLoss }) {
  const [open, setOpen] = useState(false);
  return (
    <Card title="The majority is lost">
      <Facts>
        {loss.since && <Fact name="Since">{time(loss.since)}</Fact>}
        {loss.missing.map(({ host, name, last_heard, voter }) => (
          <Fact key={host} name={voter ? "Missing voter" : "Missing host"}>
            {name}, {last_heard ? `last heard ${time(last_heard)}` : "not heard since the daemon began"}
          </Fact>
        ))}
      </Facts>
      <ul className="my-3 list-disc pl-5">
        {loss.means.map((text) => (
          <li key={text}>{text}</li>
        ))}
      </ul>
      <p className="mb-3">{loss.remedy}.</p>
      <Button kind="danger" icon={LifeBuoy} onClick={() => setOpen(true)}>
        Form the cluster anew
      </Button>
      {open && <Reform onClose={() => setOpen(false)} />}
    </Card>
  );
}

const FATES: Record<ReformHost["fate"], string> = {
  follows: "answers, comes along by itself",
  newer: "answers, has newer changes",
  silent: "does not answer",
  lost: "was lost before",
};

function Reform({ onClose }: { onClose: () => void }) {
  const preview = useQuery({
    queryKey: ["reform"],
    queryFn: () => call(api.GET("/cluster/reform")),
    staleTime: 0,
    gcTime: 0,
  });
  const reform = useMutation({
    mutationFn: (body: { confirm: string; lost: string[] }) => call(api.POST("/cluster/reform", { body })),
  });
  if (reform.data)
    return (
      <Dialog title={`Epoch ${reform.data.epoch} begins`} onClose={() => location.reload()}>
        <p>
          The daemon of this host starts again; machines that run go on running. The state before it is in the
          backup <code>{reform.data.backup}</code>.
        </p>
        <div className="flex justify-end">
          <Button kind="primary" onClick={() => location.reload()}>
            Log in
          </Button>
        </div>
      </Dialog>
    );
  if (!preview.data)
    return (
      <Dialog title="Form the cluster anew" onClose={onClose}>
        <Failure error={preview.error} />
        {preview.isPending && <Loading />}
      </Dialog>
    );
  return (
    <Decision
      preview={preview.data}
      busy={reform.isPending}
      error={reform.error}
      onReform={(lost) => reform.mutate({ confirm: preview.data.confirm, lost })}
      onClose={onClose}
    />
  );
}

function Decision({
  preview,
  busy,
  error,
  onReform,
  onClose,
}: {
  preview: ReformPreview;
  busy: boolean;
  error: unknown;
  onReform: (lost: string[]) => void;
  onClose: () => void;
}) {
  const [lost, setLost] = useState(() => lostAtFirst(preview.hosts));
  const refusal = reformRefusal(preview, lost);
  if (preview.obstacles.length > 0)
    return (
      <Dialog title="Form the cluster anew" onClose={onClose}>
        {preview.obstacles.map((text) => (
          <Warning key={text}>{text}</Warning>
        ))}
      </Dialog>
    );
  return (
    <Confirm
      title={`Form the cluster anew from ${preview.confirm}?`}
      verb="Form it anew"
      name={preview.confirm}
      busy={busy}
      error={error ?? (refusal === undefined ? undefined : new Error(refusal))}
      onConfirm={() => refusal === undefined && onReform(lost)}
      onClose={onClose}
    >
      <p>
        The cluster goes on from this host, as epoch {preview.epoch}. Hosts that are lost are refused until
        they join again; machines on them wait for them and are not started elsewhere.
      </p>
      <p>Log in at this host anew first, if you have not since the majority was lost.</p>
      <ul aria-label="Other hosts">
        {preview.hosts.map((host) => (
          <li key={host.host} className="border-line py-2 not-first:border-t">
            <span className="font-medium">{host.name}</span> {FATES[host.fate]}
            {host.machines.length > 0 && <span className="text-dim"> with {host.machines.join(", ")}</span>}
            {(host.fate === "silent" || host.fate === "newer") && (
              <Check
                checked={lost.includes(host.host)}
                onChange={({ target }) =>
                  setLost(target.checked ? [...lost, host.host] : lost.filter((id) => id !== host.host))
                }
              >
                {host.fate === "newer" ? "Give its newer changes up: it is lost" : "It is lost"}
              </Check>
            )}
          </li>
        ))}
      </ul>
    </Confirm>
  );
}

/** Backups of the state on this host. */
export function Backups() {
  const client = useQueryClient();
  const follow = useFollow();
  const refusal = useClusterRefusal()("cluster.write");
  const backups = useQuery({
    queryKey: ["state-backups"],
    queryFn: () => call(api.GET("/cluster/backups")),
    refetchInterval: 60_000,
  });
  const make = useMutation({
    mutationFn: () => call(api.POST("/cluster/backups")),
    onSuccess: () => follow("Back up the state", "done"),
    onError: (error) => follow("Back up the state", error),
    onSettled: () => client.invalidateQueries({ queryKey: ["state-backups"] }),
  });
  const download = useMutation({
    mutationFn: (id: string) =>
      call(api.GET("/cluster/backups/{id}/content", { params: { path: { id } }, parseAs: "blob" })),
    onSuccess: (content, id) => save(content as unknown as Blob, `${id}.lqb`),
    onError: (error) => follow("Download the backup", error),
  });
  const [restoring, setRestoring] = useState<StateBackup | "file">();
  return (
    <Card title="Backups of the state on this host">
      <Failure error={backups.error} />
      {backups.isPending && <Loading />}
      {backups.data?.length === 0 && (
        <Empty icon={Archive} title="None yet.">
          One is made each day, and before what cannot be undone.
        </Empty>
      )}
      <ul aria-label="Backups of the state">
        {backups.data?.map((backup) => (
          <li
            key={backup.id}
            className="flex flex-wrap items-center gap-x-5 gap-y-1 border-line py-2 not-first:border-t"
          >
            <span className="min-w-44">{time(backup.created_at)}</span>
            <span className="w-24">{backup.reason}</span>
            <span className="text-dim">{bytes(backup.size_bytes)}</span>
            <Content backup={backup} />
            <span className="ml-auto flex gap-2">
              <Button
                small
                icon={RotateCcw}
                refusal={refusal ?? (backup.damaged ? "It is damaged." : undefined)}
                aria-label={`Restore the backup of ${time(backup.created_at)}`}
                onClick={() => setRestoring(backup)}
              >
                Restore
              </Button>
              <Button
                small
                icon={Download}
                refusal={refusal}
                busy={download.isPending && download.variables === backup.id}
                aria-label={`Download the backup of ${time(backup.created_at)}`}
                onClick={() => download.mutate(backup.id)}
              >
                Download
              </Button>
            </span>
          </li>
        ))}
      </ul>
      <p className="my-3 text-dim">
        A file holds every secret of the cluster: keep it where nobody else reads it.
      </p>
      <div className="flex flex-wrap gap-2">
        <Button icon={Archive} refusal={refusal} busy={make.isPending} onClick={() => make.mutate()}>
          Back up now
        </Button>
        <Button icon={RotateCcw} refusal={refusal} onClick={() => setRestoring("file")}>
          Restore from a file
        </Button>
      </div>
      {restoring && (
        <Restore
          {...(restoring === "file" ? {} : { backup: restoring })}
          onClose={() => setRestoring(undefined)}
        />
      )}
    </Card>
  );
}

/** Puts a backup in the place of this host's state: one of the list, or a file from elsewhere. */
function Restore({ backup, onClose }: { backup?: StateBackup; onClose: () => void }) {
  const cluster = useCluster().data;
  const name = cluster?.members?.find(({ host }) => host === cluster.this_host)?.name;
  const [file, setFile] = useState<File>();
  const [as, setAs] = useState<"itself" | "origin">("itself");
  const restore = useMutation({
    mutationFn: async () => {
      const content = backup
        ? ((await call(
            api.GET("/cluster/backups/{id}/content", {
              params: { path: { id: backup.id } },
              parseAs: "blob",
            }),
          )) as unknown as Blob)
        : file!;
      return call(
        api.POST("/cluster/restore", {
          params: { query: { confirm: name!, as } },
          headers: { "Content-Type": "application/octet-stream" },
          body: [],
          bodySerializer: () => content,
        }),
      );
    },
  });
  if (restore.data)
    return (
      <Dialog title={`Epoch ${restore.data.epoch} begins`} onClose={() => location.reload()}>
        <p>
          The state of {restore.data.content.host_name} at change {restore.data.content.revision} is in place.
          The daemon of this host starts again; log in with an account of the backup.
        </p>
        {restore.data.lost.length > 0 && <p>Lost until they join again: {restore.data.lost.join(", ")}.</p>}
        <div className="flex justify-end">
          <Button kind="primary" onClick={() => location.reload()}>
            Log in
          </Button>
        </div>
      </Dialog>
    );
  if (name === undefined)
    return (
      <Dialog title="Restore a backup" onClose={onClose}>
        <Warning>The host does not know itself yet: try again in a moment.</Warning>
      </Dialog>
    );
  return (
    <Confirm
      title={backup ? `Restore the backup of ${time(backup.created_at)}?` : "Restore a backup from a file?"}
      verb="Restore"
      name={name}
      busy={restore.isPending}
      error={restore.error ?? undefined}
      refusal={backup || file ? undefined : "Choose the file of a backup first."}
      onConfirm={() => restore.mutate()}
      onClose={onClose}
    >
      <p>
        The state of this host is replaced by that of the backup, users, passwords and API tokens included;
        sessions end. Every other host of the backup is lost until it joins again.
      </p>
      <p>
        It is refused unless this host is alone and has nothing of its own, or its cluster was formed anew.
      </p>
      {!backup && (
        <Field label="File">
          {(props) => (
            <input
              {...props}
              type="file"
              accept=".lqb"
              className="input"
              onChange={({ target }) => setFile(target.files?.[0])}
            />
          )}
        </Field>
      )}
      <Select
        label="This host takes it over"
        value={as}
        options={[
          ["itself", "As the host it is"],
          ["origin", "As the host that made the backup"],
        ]}
        hint={
          as === "origin"
            ? "For a host that was installed anew and has the data of the old one, which must never be switched on again."
            : "It is added to the hosts of the backup, unless it is one of them."
        }
        onValue={(value) => setAs(value as typeof as)}
      />
    </Confirm>
  );
}

function Content({ backup: { content, damaged } }: { backup: StateBackup }) {
  if (damaged) return <span className="text-bad">{damaged}</span>;
  return (
    <span className="text-dim">
      epoch {content?.epoch}, change {content?.revision}
    </span>
  );
}
