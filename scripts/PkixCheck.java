import java.io.FileInputStream;
import java.io.InputStream;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertStore;
import java.security.cert.CertificateFactory;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Collection;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * Validates a chain as Java does (PKIX, revocation on) and prints `accepted`, or `refused: REASON`.
 *
 * java PkixCheck.java crl|ocsp ROOT INTERMEDIATE LEAF [CRLS]: with `crl` the revocation lists come from the
 * file CRLS (PEM, several in a row), or, without one, from the certificates' distribution points, which takes
 * -Dcom.sun.security.enableCRLDP=true; with `ocsp` every certificate's own responder is asked.
 */
public final class PkixCheck {
    public static void main(String[] args) throws Exception {
        boolean ocsp = args[0].equals("ocsp");
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        X509Certificate root = certificate(factory, args[1]);
        List<X509Certificate> path = List.of(certificate(factory, args[3]), certificate(factory, args[2]));

        PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(root, null)));
        CertPathValidator validator = CertPathValidator.getInstance("PKIX");
        PKIXRevocationChecker revocation = (PKIXRevocationChecker) validator.getRevocationChecker();
        EnumSet<PKIXRevocationChecker.Option> options = EnumSet.of(PKIXRevocationChecker.Option.NO_FALLBACK);
        if (!ocsp) {
            options.add(PKIXRevocationChecker.Option.PREFER_CRLS);
        }
        if (args.length > 4) {
            try (InputStream in = new FileInputStream(args[4])) {
                Collection<Object> lists = new ArrayList<>(factory.generateCRLs(in));
                parameters.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(lists)));
            }
        }
        revocation.setOptions(options);
        parameters.addCertPathChecker(revocation);
        try {
            validator.validate(factory.generateCertPath(path), parameters);
            System.out.println("accepted");
        } catch (CertPathValidatorException e) {
            System.out.println("refused: " + e.getReason() + " at " + e.getIndex() + ": " + e.getMessage());
        }
    }

    private static X509Certificate certificate(CertificateFactory factory, String file) throws Exception {
        try (InputStream in = new FileInputStream(file)) {
            return (X509Certificate) factory.generateCertificate(in);
        }
    }

    private PkixCheck() {}
}
