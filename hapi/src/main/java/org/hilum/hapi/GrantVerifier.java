package org.hilum.hapi;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.security.AlgorithmParameters;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PublicKey;
import java.security.Signature;
import java.security.spec.ECGenParameterSpec;
import java.security.spec.ECParameterSpec;
import java.security.spec.ECPoint;
import java.security.spec.ECPublicKeySpec;
import java.time.Clock;
import java.util.Base64;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;

/**
 * Checks signed grants: compact JWS, ES256 and nothing else, with the one key that we were given.
 *
 * <p>The algorithm is fixed, so a header cannot choose `none` or another kind of key.
 */
final class GrantVerifier {

  static final String AUDIENCE = "hapi";
  static final long LONGEST_S = 60;
  private static final long LEEWAY_S = 30; // the most that two machines' clocks may differ
  private static final int KEPT = 4096;
  private static final int LONGEST_GRANT = 48 * 1024;
  private static final Base64.Decoder BASE64 = Base64.getUrlDecoder();
  private static final ObjectMapper JSON = new ObjectMapper();

  private final PublicKey key;
  private final String keyId;
  private final Clock clock;

  /** A grant comes with several requests in its short life: its signature is checked once. */
  private final Map<String, Grant> known =
      Collections.synchronizedMap(
          new LinkedHashMap<>(KEPT, 0.75f, true) {
            @Override
            protected boolean removeEldestEntry(Map.Entry<String, Grant> eldest) {
              return size() > KEPT;
            }
          });

  private GrantVerifier(PublicKey key, String keyId, Clock clock) {
    this.key = key;
    this.keyId = keyId;
    this.clock = clock;
  }

  /** From a public JWK (kty EC, crv P-256, kid); fails when it is not one. */
  static GrantVerifier of(String jwk, Clock clock) {
    try {
      var node = JSON.readTree(jwk);
      if (!"EC".equals(node.path("kty").asText()) || !"P-256".equals(node.path("crv").asText()) || node.has("d")) {
        throw new IllegalArgumentException("not a public P-256 key");
      }
      var parameters = AlgorithmParameters.getInstance("EC");
      parameters.init(new ECGenParameterSpec("secp256r1"));
      var point = new ECPoint(number(node, "x"), number(node, "y"));
      var spec = new ECPublicKeySpec(point, parameters.getParameterSpec(ECParameterSpec.class));
      return new GrantVerifier(KeyFactory.getInstance("EC").generatePublic(spec), node.path("kid").asText(), clock);
    } catch (IOException | GeneralSecurityException e) {
      throw new IllegalArgumentException("not a public P-256 key", e);
    }
  }

  /** The grant in a token, if it is good now and was made for this request. */
  Optional<Grant> verify(String token, String method, String path) {
    var grant = known.get(token);
    if (grant == null) {
      grant = checked(token);
      if (grant == null) {
        return Optional.empty();
      }
      known.put(token, grant);
    }
    var now = clock.instant().getEpochSecond();
    var good = now <= grant.expires() + LEEWAY_S && digest(method + " " + path).equals(grant.request());
    return good ? Optional.of(grant) : Optional.empty();
  }

  private Grant checked(String token) {
    var parts = token.split("\\.", -1);
    if (token.length() > LONGEST_GRANT || parts.length != 3) {
      return null;
    }
    try {
      var header = JSON.readTree(BASE64.decode(parts[0]));
      if (!"ES256".equals(header.path("alg").asText()) || !keyId.equals(header.path("kid").asText())) {
        return null;
      }
      var signature = Signature.getInstance("SHA256withECDSAinP1363Format");
      signature.initVerify(key);
      signature.update((parts[0] + "." + parts[1]).getBytes(StandardCharsets.US_ASCII));
      if (!signature.verify(BASE64.decode(parts[2]))) {
        return null;
      }
      var claims = JSON.readTree(BASE64.decode(parts[1]));
      return timesAreGood(claims) && AUDIENCE.equals(claims.path("aud").asText()) ? Grant.of(claims) : null;
    } catch (IOException | GeneralSecurityException | IllegalArgumentException e) {
      return null; // not a grant of ours, whatever it is
    }
  }

  private boolean timesAreGood(JsonNode claims) {
    var issued = claims.path("iat").asLong();
    var expires = claims.path("exp").asLong();
    return expires > issued
        && expires - issued <= LONGEST_S
        && issued <= clock.instant().getEpochSecond() + LEEWAY_S;
  }

  private static String digest(String text) {
    var digest = Digests.sha256().digest(text.getBytes(StandardCharsets.UTF_8));
    return Base64.getUrlEncoder().withoutPadding().encodeToString(digest);
  }

  private static BigInteger number(JsonNode node, String name) {
    return new BigInteger(1, BASE64.decode(node.path(name).asText()));
  }
}
