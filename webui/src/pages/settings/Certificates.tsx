// The certificates of all hosts: what to compare with what a browser shows, when they end, and new ones.
import { Link } from "@tanstack/react-router";
import { BadgeCheck } from "lucide-react";
import { useState } from "react";
import type { Host } from "../../api/client";
import { useHosts } from "../../api/queries";
import { useClusterRefusal } from "../../api/rights";
import { NewCertificate } from "../../components/NewCertificate";
import { Button, Card, Failure, Loading, State } from "../../components/ui";
import { standing } from "../../lib/certificates";
import { time } from "../../lib/format";

export function Certificates() {
  const hosts = useHosts();
  const refusal = useClusterRefusal()("cluster.write");
  const [renewed, setRenewed] = useState<Host>();
  return (
    <Card title="Certificates of the hosts">
      <p className="mb-2 text-dim">
        Each host signs its own. Compare the SHA-256 fingerprint with what your browser shows and with what
        the host’s console shows: only then do you talk to this host and nobody else.
      </p>
      <Failure error={hosts.error} />
      {hosts.isPending && <Loading />}
      <ul aria-label="Certificates">
        {hosts.data?.map((host) => {
          const certificate = host.status?.certificate;
          return (
            <li
              key={host.meta.id}
              className="flex flex-wrap items-center gap-x-5 gap-y-1 border-line py-2.5 not-first:border-t"
            >
              <span className="min-w-32 font-medium">
                <Link className="link" to="/hosts/$id/system" params={{ id: host.meta.id }}>
                  {host.meta.name}
                </Link>
              </span>
              {certificate ? (
                <>
                  <State {...standing(certificate.not_after)} />
                  {certificate.not_after && (
                    <span className="text-dim">until {time(certificate.not_after)}</span>
                  )}
                </>
              ) : (
                <span className="text-dim">
                  {host.status ? "does not say which it has" : "cannot be asked from here"}
                </span>
              )}
              <span className="ml-auto">
                <Button
                  small
                  icon={BadgeCheck}
                  aria-label={`New certificate for ${host.meta.name}`}
                  refusal={refusal ?? (host.status ? undefined : "This host cannot be asked from here.")}
                  onClick={() => setRenewed(host)}
                >
                  New certificate
                </Button>
              </span>
              {certificate && <code className="w-full wrap-anywhere">{certificate.fingerprint}</code>}
            </li>
          );
        })}
      </ul>
      {renewed && <NewCertificate host={renewed} onClose={() => setRenewed(undefined)} />}
    </Card>
  );
}
