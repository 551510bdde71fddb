package checks;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * Plain JMS against any broker: every check prints one line, `ok NAME`, `skipped NAME: why` or `FAILED NAME: why`.
 *
 * usage: Checks [--url U] [--second U] [--user N --password P] [--limit SECONDS] [--list] [NAME or CLASS ...]
 *
 * What the checks demand is what ActiveMQ 5.17 does. Exit 0 when none failed.
 */
public final class Checks {
    private static final List<Class<? extends Fixture>> FAMILIES = Arrays.asList(
        Bodies.class, Headers.class, Acknowledging.class, Transactions.class, DeadLetters.class, Prefetching.class,
        Selecting.class, Sharing.class, Browsing.class, Temporary.class, Topics.class, Durables.class,
        Destinations.class, Sending.class, Connections.class);

    private final Target target = new Target();
    private final List<String> wanted = new ArrayList<>();
    private long limitMs = 30_000;
    private boolean listed;

    private Checks(String[] args) {
        for (int i = 0; i < args.length; i++) {
            switch (args[i]) {
                case "--url": target.url = args[++i]; break;
                case "--second": target.second = args[++i]; break;
                case "--user": target.user = args[++i]; break;
                case "--password": target.password = args[++i]; break;
                case "--limit": limitMs = Long.parseLong(args[++i]) * 1000; break;
                case "--list": listed = true; break;
                default: wanted.add(args[i]);
            }
        }
    }

    public static void main(String[] args) throws Exception {
        boolean clean = new Checks(args).run();
        System.out.flush();
        // A check that hangs must not keep the process.
        Runtime.getRuntime().halt(clean ? 0 : 1);
    }

    private boolean run() throws Exception {
        Map<String, Integer> sums = new TreeMap<>();
        int chosen = 0;
        for (Class<? extends Fixture> family : FAMILIES) {
            Method[] methods = family.getDeclaredMethods();
            Arrays.sort(methods, Comparator.comparing(Method::getName));
            for (Method method : methods) {
                if (!method.isAnnotationPresent(Check.class) || !isWanted(family, method)) {
                    continue;
                }
                chosen++;
                if (listed) {
                    System.out.println(family.getSimpleName() + " " + method.getName());
                } else {
                    sums.merge(runOne(family, method), 1, Integer::sum);
                }
            }
        }
        System.out.println(listed ? chosen + " checks" : "done " + sums);
        return chosen > 0 && !sums.containsKey("FAILED");
    }

    private boolean isWanted(Class<?> family, Method method) {
        return wanted.isEmpty() || wanted.contains(method.getName()) || wanted.contains(family.getSimpleName());
    }

    private String runOne(Class<? extends Fixture> family, Method method) throws Exception {
        long begin = System.nanoTime();
        Throwable[] thrown = new Throwable[1];
        Thread thread = new Thread(() -> {
            try (Fixture fixture = family.getDeclaredConstructor().newInstance()) {
                fixture.prepare(target, method.getName());
                method.invoke(fixture);
            } catch (InvocationTargetException e) {
                thrown[0] = e.getCause();
            } catch (Throwable e) {
                thrown[0] = e;
            }
        }, method.getName());
        thread.setDaemon(true);
        thread.start();
        thread.join(limitMs);
        String outcome;
        String why = "";
        if (thread.isAlive()) {
            outcome = "FAILED";
            why = "not over in " + limitMs + " ms, is in " + place(thread.getStackTrace());
        } else if (thrown[0] instanceof Skipped) {
            outcome = "skipped";
            why = thrown[0].getMessage();
        } else if (thrown[0] != null) {
            outcome = "FAILED";
            why = thrown[0] + " at " + place(thrown[0].getStackTrace());
        } else {
            outcome = "ok";
        }
        long ms = (System.nanoTime() - begin) / 1_000_000;
        System.out.println(outcome + " " + method.getName() + (why.isEmpty() ? "" : ": " + why) + " (" + ms + " ms)");
        System.out.flush();
        return outcome;
    }

    /** The innermost place, and the line of the check that led there. */
    private static String place(StackTraceElement[] stack) {
        String own = "";
        for (StackTraceElement frame : stack) {
            if (frame.getClassName().startsWith("checks.") && !frame.getClassName().endsWith(".Fixture")) {
                own = " from " + frame;
                break;
            }
        }
        return (stack.length == 0 ? "nowhere" : stack[0].toString()) + own;
    }
}
