// What can be done to a machine: the likely thing as a button, the rest in a menu, the dangerous after a question.
import { useNavigate } from "@tanstack/react-router";
import {
  MoveRight,
  Pause,
  Play,
  Power,
  RefreshCw,
  RotateCcw,
  SquareTerminal,
  Trash2,
  Unplug,
  type LucideIcon,
} from "lucide-react";
import { createContext, useCallback, useContext, useMemo, useState, type ReactNode } from "react";
import { ApiError, api, call, type Vm } from "../../api/client";
import { useAction, useHosts } from "../../api/queries";
import { Confirm } from "../../components/Dialog";
import { useFollow, type Follow } from "../../components/shell/Orders";
import { Button, Menu, type MenuItem } from "../../components/ui";
import { useRefusal } from "../../api/rights";
import { ACTIONS, permission, primary, refusal, type Action } from "../../lib/actions";
import { moveRefusal } from "../../lib/moves";
import { hasScreen } from "../../lib/screen";
import { Migrate } from "./Migrate";

export const ICONS: Record<Action, LucideIcon> = {
  start: Play,
  resume: Play,
  stop: Power,
  pause: Pause,
  restart: RefreshCw,
  reset: RotateCcw,
  "force-stop": Unplug,
  delete: Trash2,
};

export const ALL: Action[] = ["start", "stop", "restart", "pause", "resume", "reset", "force-stop", "delete"];

type Ask = (vm: Vm, action: Action) => void;
const Context = createContext<Ask>(() => {});
const Moving = createContext<(vm: Vm) => void>(() => {});

/** Gives the pages inside a way to order something done to a machine; one question for all of them. */
export function VmOrders({ onDeleted, children }: { onDeleted?: () => void; children: ReactNode }) {
  const action = useAction();
  const { mutateAsync } = action;
  const follow = useFollow();
  const [asked, setAsked] = useState<{ vm: Vm; action: Action }>();
  const [error, setError] = useState<unknown>();
  const [moving, setMoving] = useState<Vm>();

  const run = useCallback(
    async (vm: Vm, what: Action, volumes = false) => {
      const label = `${ACTIONS[what].label} ${vm.meta.name}`;
      try {
        const task = await mutateAsync({ vm, action: what });
        setAsked(undefined);
        follow(label, task);
        if (what === "delete") {
          if (volumes) void removeVolumes(vm, follow);
          onDeleted?.();
        }
      } catch (failed) {
        if (ACTIONS[what].confirm) setError(failed);
        else follow(label, failed instanceof Error ? failed : new Error(String(failed)));
      }
    },
    [mutateAsync, follow, onDeleted],
  );
  const ask = useCallback<Ask>(
    (vm, what) => {
      setError(undefined);
      if (ACTIONS[what].confirm) setAsked({ vm, action: what });
      else void run(vm, what);
    },
    [run],
  );
  const disks = asked?.vm.spec.disks?.length ?? 0;
  return (
    <Context value={ask}>
      <Moving value={setMoving}>{children}</Moving>
      {moving && <Migrate vm={moving} onClose={() => setMoving(undefined)} />}
      {asked && (
        <Confirm
          title={`${ACTIONS[asked.action].label} ${asked.vm.meta.name}?`}
          verb={ACTIONS[asked.action].label}
          {...(asked.action === "delete" ? { name: asked.vm.meta.name } : {})}
          {...(asked.action === "delete" && disks > 0
            ? {
                option: {
                  label:
                    disks === 1
                      ? "Delete its disk and all that is on it"
                      : `Delete its ${disks} disks and all that is on them`,
                },
              }
            : {})}
          busy={action.isPending}
          error={error}
          onConfirm={(volumes) => void run(asked.vm, asked.action, volumes)}
          onClose={() => setAsked(undefined)}
        >
          <p>{ACTIONS[asked.action].confirm}</p>
        </Confirm>
      )}
    </Context>
  );
}

export const useAsk = () => useContext(Context);

/** The way to another host. */
function useMove(vm: Vm): MenuItem {
  const move = useContext(Moving);
  const denied = useRefusal();
  const hosts = useHosts().data?.length ?? 0;
  return useMemo(
    () => ({
      label: "Migrate",
      icon: MoveRight,
      refusal:
        denied("vm.write", { kind: "vm", id: vm.meta.id, labels: vm.meta.labels }) ?? moveRefusal(vm, hosts),
      apart: true,
      run: () => move(vm),
    }),
    [vm, move, denied, hosts],
  );
}

/** Why something cannot be done to a machine: by its state, or by one's rights. */
export function useVmRefusal() {
  const denied = useRefusal();
  return (vm: Vm, action: Action) =>
    denied(permission(action), { kind: "vm", id: vm.meta.id, labels: vm.meta.labels }) ??
    refusal(action, vm.status.state);
}

/** The menu of a row. */
export function VmMenu({ vm }: { vm: Vm }) {
  const ask = useAsk();
  const navigate = useNavigate();
  const why = useVmRefusal();
  const denied = useRefusal();
  const move = useMove(vm);
  const items = useMemo(
    (): MenuItem[] => [
      {
        label: "Open console",
        icon: SquareTerminal,
        refusal: denied("vm.console", { kind: "vm", id: vm.meta.id, labels: vm.meta.labels }),
        run: () =>
          void navigate({
            to: hasScreen(vm) ? "/vms/$id/screen" : "/vms/$id/console",
            params: { id: vm.meta.id },
          }),
      },
      ...withMove(menu(vm, ask, ALL, why), move),
    ],
    [vm, ask, navigate, why, denied, move],
  );
  return <Menu label={`Actions for ${vm.meta.name}`} items={items} />;
}

function menu(
  vm: Vm,
  ask: Ask,
  actions: Action[],
  why: (vm: Vm, action: Action) => string | undefined,
): MenuItem[] {
  return actions.map((action) => ({
    label: ACTIONS[action].label,
    icon: ICONS[action],
    danger: ACTIONS[action].danger,
    refusal: why(vm, action),
    apart: action === "start" || action === "reset" || action === "delete",
    run: () => ask(vm, action),
  }));
}

/** Before what deletes. */
const withMove = (items: MenuItem[], move: MenuItem) => [...items.slice(0, -1), move, ...items.slice(-1)];

/** The buttons of a machine's own page. */
export function VmButtons({ vm }: { vm: Vm }) {
  const ask = useAsk();
  const move = useMove(vm);
  const why = useVmRefusal();
  const first = primary(vm.status.state);
  return (
    <>
      <Button
        kind={first === "stop" ? "plain" : "primary"}
        icon={ICONS[first]}
        refusal={why(vm, first)}
        onClick={() => ask(vm, first)}
      >
        {ACTIONS[first].label}
      </Button>
      <Menu
        label={`Actions for ${vm.meta.name}`}
        items={withMove(
          menu(
            vm,
            ask,
            ALL.filter((action) => action !== first),
            why,
          ),
          move,
        )}
      >
        Actions
      </Menu>
    </>
  );
}

/** Removes a machine's volumes once it is gone. */
export async function removeVolumes(vm: Vm, follow: Follow) {
  const gone = async () => {
    try {
      await call(api.GET("/vms/{id}", { params: { path: { id: vm.meta.id } } }));
      return false;
    } catch (error) {
      return error instanceof ApiError && error.problem.status === 404;
    }
  };
  for (let tries = 0; !(await gone()); tries += 1) {
    if (tries > 120)
      return follow(`Delete the disks of ${vm.meta.name}`, new Error("The machine is still there."));
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  for (const disk of vm.spec.disks ?? []) {
    try {
      await call(api.DELETE("/volumes/{id}", { params: { path: { id: disk.volume } } }));
    } catch (error) {
      follow(`Delete a disk of ${vm.meta.name}`, error instanceof Error ? error : new Error(String(error)));
    }
  }
}
