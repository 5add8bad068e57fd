// What this is, and how to know that it is it.
import { Link } from "@tanstack/react-router";
import { useCluster, useHosts, useNames } from "../../api/queries";
import { Card, Fact, Facts, Failure } from "../../components/ui";

export function AboutPage() {
  return (
    <div className="grid gap-4 xl:grid-cols-2">
      <About />
      <Certificate />
    </div>
  );
}

function Certificate() {
  return (
    <Card title="Certificate">
      <p>
        The host signs its own certificate. Its SHA-256 fingerprint is shown on the host’s console; compare it
        with what your browser shows (the sign before the address) when it warns.{" "}
        <Link to="/settings/certificates" className="link">
          All certificates
        </Link>
      </p>
      <p className="mt-2 text-dim">
        This page reaches the host at <code>{location.host}</code> and nothing else.
      </p>
    </Card>
  );
}

function About() {
  const cluster = useCluster();
  const hosts = useHosts();
  const name = useNames(hosts);
  const here = hosts.data?.find(({ meta }) => meta.id === cluster.data?.this_host);
  return (
    <Card title="About">
      <Failure error={cluster.error} />
      <Facts>
        <Fact name="Version">{here?.status?.version}</Fact>
        <Fact name="Kernel">{here?.status?.kernel}</Fact>
        <Fact name="This host">{here?.meta.name}</Fact>
        <Fact name="Cluster">{cluster.data && <code>{cluster.data.id}</code>}</Fact>
        <Fact name="Leader">
          {cluster.data?.leader
            ? (name(cluster.data.leader) ?? cluster.data.leader)
            : cluster.data && (cluster.data.quorum ? "none" : "not known without a majority")}
        </Fact>
        <Fact name="Voting hosts">{cluster.data?.voters.length}</Fact>
        <Fact name="Revision">{cluster.data?.revision}</Fact>
        <Fact name="API">
          <a className="link" href="/api/v1/openapi.json">
            /api/v1/openapi.json
          </a>
        </Fact>
        <Fact name="Licence">Apache-2.0</Fact>
      </Facts>
    </Card>
  );
}
