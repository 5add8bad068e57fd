// The support bundle on a stick that is plugged into the host: for hosts that no browser may take a file from.
import { useMutation, useQuery } from "@tanstack/react-query";
import { Usb } from "lucide-react";
import { api, call, type Host } from "../../api/client";
import { Dialog } from "../../components/Dialog";
import { Button, Empty, Failure, Loading } from "../../components/ui";
import { bytes } from "../../lib/format";

export function Stick({ host, onClose }: { host: Host; onClose: () => void }) {
  const path = { id: host.meta.id };
  const sticks = useQuery({
    queryKey: ["removable", path.id],
    queryFn: () => call(api.GET("/hosts/{id}/removable", { params: { path } })),
    // One is plugged in while this is looked at.
    refetchInterval: 5_000,
  });
  const write = useMutation({
    mutationFn: (device: string) =>
      call(api.POST("/hosts/{id}/support-bundle", { params: { path }, body: { device } })),
  });
  const written = write.data;
  return (
    <Dialog title={`Write to a stick in ${host.meta.name}`} onClose={onClose}>
      {written ? (
        <p role="status">
          <code>{written.file}</code> ({bytes(written.size_bytes)}) is on {written.device}. It can be pulled
          out.
        </p>
      ) : (
        <>
          <p>One file is added to what is on it; nothing else is changed.</p>
          <Failure error={sticks.error ?? write.error} />
          {sticks.isPending && <Loading />}
          {sticks.data?.drives.length === 0 && (
            <Empty icon={Usb} title="No stick is plugged in.">
              It is found some seconds after it was.
            </Empty>
          )}
          <ul aria-label="Sticks">
            {sticks.data?.drives.map((drive) => (
              <li key={drive.device} className="flex items-center gap-3 border-line py-2 not-first:border-t">
                <span className="mr-auto">
                  <span className="font-medium">{drive.device}</span>{" "}
                  <span className="text-dim">
                    {[drive.model, drive.label, drive.file_system, bytes(drive.size_bytes)]
                      .filter(Boolean)
                      .join(", ")}
                  </span>
                </span>
                <Button
                  small
                  refusal={drive.unfit ? `It ${drive.unfit}.` : undefined}
                  busy={write.isPending && write.variables === drive.device}
                  disabled={write.isPending}
                  aria-label={`Write to ${drive.device}`}
                  onClick={() => write.mutate(drive.device)}
                >
                  Write
                </Button>
              </li>
            ))}
          </ul>
        </>
      )}
      <div className="flex justify-end">
        <Button onClick={onClose}>Close</Button>
      </div>
    </Dialog>
  );
}
