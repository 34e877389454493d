import java.nio.file.Files;
import java.nio.file.Path;
import org.codelibs.opensearch.runner.OpenSearchRunner;

/**
 * A one-node OpenSearch on the loopback interface, for the end-to-end tests.
 *
 * Two arguments: the folder that it may fill, and the HTTP port. It lives until it gets SIGTERM, or until its
 * standard input closes, which is how it notices that the test that started it has died.
 */
final class SearchServer {
    private static final String CLUSTER = "auditship-e2e";

    private SearchServer() {}

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 2) {
            System.err.println("usage: SearchServer FOLDER PORT");
            System.exit(64);
        }
        Path folder = Files.createDirectories(Path.of(arguments[0]).toAbsolutePath());
        OpenSearchRunner node = start(folder, Integer.parseInt(arguments[1]));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(node)));
        System.out.println("started");
        while (System.in.read() >= 0) {
            // Whatever is written to it means nothing; only the end does.
        }
        System.exit(0);
    }

    private static OpenSearchRunner start(Path folder, int port) {
        OpenSearchRunner node = new OpenSearchRunner();
        node.onBuild((number, settings) -> settings
            .put("http.port", port)
            .put("network.host", "127.0.0.1")
            .put("discovery.type", "single-node")
            // A test machine's disk may well be over 90 % full, which would make every index read-only.
            .put("cluster.routing.allocation.disk.threshold_enabled", false)
            .put("action.auto_create_index", true));
        node.build(OpenSearchRunner.newConfigs()
            .clusterName(CLUSTER)
            .basePath(folder.toString())
            .numOfNode(1)
            .disableESLogger());
        return node;
    }

    private static void stop(OpenSearchRunner node) {
        try {
            node.close();
        } catch (Exception failure) {
            failure.printStackTrace();
        }
    }
}
