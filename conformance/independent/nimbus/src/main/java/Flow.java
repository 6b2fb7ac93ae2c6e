import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.crypto.ECDSASigner;
import com.nimbusds.jose.JWSHeader;
import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.ECKey;
import com.nimbusds.jose.jwk.JWKSet;
import com.nimbusds.jose.jwk.gen.ECKeyGenerator;
import com.nimbusds.jose.util.JSONObjectUtils;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.SignedJWT;
import com.nimbusds.oauth2.sdk.*;
import com.nimbusds.oauth2.sdk.auth.PrivateKeyJWT;
import com.nimbusds.oauth2.sdk.dpop.DPoPProofFactory;
import com.nimbusds.oauth2.sdk.dpop.DefaultDPoPProofFactory;
import com.nimbusds.oauth2.sdk.http.HTTPRequest;
import com.nimbusds.oauth2.sdk.http.HTTPResponse;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.id.Issuer;
import com.nimbusds.oauth2.sdk.id.State;
import com.nimbusds.oauth2.sdk.jarm.JARMValidator;
import com.nimbusds.oauth2.sdk.pkce.CodeChallengeMethod;
import com.nimbusds.oauth2.sdk.pkce.CodeVerifier;
import com.nimbusds.oauth2.sdk.token.AccessToken;
import com.nimbusds.oauth2.sdk.token.DPoPAccessToken;
import com.nimbusds.oauth2.sdk.token.RefreshToken;
import com.nimbusds.openid.connect.sdk.*;
import com.nimbusds.openid.connect.sdk.op.OIDCProviderMetadata;
import com.nimbusds.openid.connect.sdk.token.OIDCTokens;
import com.nimbusds.openid.connect.sdk.validators.IDTokenValidator;
import java.io.BufferedReader;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Date;
import java.util.Map;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * Goes through PAR, JAR, JARM and DPoP with the Nimbus OAuth 2.0 SDK. The test that runs it is the customer's browser: it opens what is printed
 * behind "open", and writes the address at which it was sent back.
 */
public final class Flow {
  private final Issuer issuer;
  private final ClientID client;
  private final ECKey key;
  private final URI redirect;
  private final Scope scope;
  private final String resource;
  private OIDCProviderMetadata server;
  private DPoPProofFactory proofs;
  private final Nonce nonce = new Nonce();
  private Nonce serverNonce; // for proofs; null until the server wants one

  private Flow(Map<String, Object> given) throws Exception {
    issuer = new Issuer((String) given.get("issuer"));
    client = new ClientID((String) given.get("client_id"));
    key = ECKey.parse(JSONObjectUtils.getJSONObject(given, "key"));
    redirect = URI.create((String) given.get("redirect_uri"));
    scope = Scope.parse((String) given.get("scope"));
    resource = (String) given.get("resource");
  }

  public static void main(String[] args) throws Exception {
    Map<String, Object> given = JSONObjectUtils.parse(System.getenv("FLOW"));
    trust((String) given.get("ca"));
    new Flow(given).run();
    System.out.println("done");
  }

  /** Makes all connections trust the bank's authority, and no other. */
  private static void trust(String file) throws Exception {
    KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null);
    try (InputStream in = Files.newInputStream(Path.of(file))) {
      store.setCertificateEntry("bank", CertificateFactory.getInstance("X.509").generateCertificate(in));
    }
    TrustManagerFactory trusted = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trusted.init(store);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, trusted.getTrustManagers(), null);
    HTTPRequest.setDefaultSSLSocketFactory(context.getSocketFactory()); // the SDK's own connections
    HttpsURLConnection.setDefaultSSLSocketFactory(context.getSocketFactory());
  }

  private static void check(String what, boolean holds) {
    if (!holds) {
      throw new IllegalStateException("not so: " + what);
    }
    System.out.println("ok " + what);
  }

  private void run() throws Exception {
    server = OIDCProviderMetadata.resolve(issuer);
    check("discovery", server.supportsAuthorizationResponseIssuerParam() && server.getPushedAuthorizationRequestEndpointURI() != null);
    ECKey bound = new ECKeyGenerator(Curve.P_256).generate();
    proofs = new DefaultDPoPProofFactory(bound, JWSAlgorithm.ES256);

    CodeVerifier verifier = new CodeVerifier();
    State state = new State();
    URI pushed = push(verifier, state);
    URI callback = visit(new AuthorizationRequest.Builder(pushed, client).endpointURI(server.getAuthorizationEndpointURI()).build().toURI());
    AuthorizationCode code = answer(callback, state);
    OIDCTokens tokens = exchange(new AuthorizationCodeGrant(code, redirect, verifier));
    idToken(tokens);
    call(tokens);
    RefreshToken refresh = tokens.getRefreshToken();
    check("refreshed", !exchange(new RefreshTokenGrant(refresh)).getAccessToken().equals(tokens.getAccessToken()));
  }

  private static URI visit(URI address) throws Exception {
    System.out.println("open " + address);
    return URI.create(new BufferedReader(new InputStreamReader(System.in)).readLine());
  }

  private PrivateKeyJWT authentication() throws Exception {
    return new PrivateKeyJWT(client, URI.create(issuer.getValue()), JWSAlgorithm.ES256, key.toECPrivateKey(), key.getKeyID(), null);
  }

  /** JAR in PAR. */
  private URI push(CodeVerifier verifier, State state) throws Exception {
    AuthenticationRequest request = new AuthenticationRequest.Builder(new ResponseType(ResponseType.Value.CODE), scope, client, redirect)
        .state(state).nonce(nonce).responseMode(ResponseMode.JWT).codeChallenge(verifier, CodeChallengeMethod.S256).build();
    Date now = new Date();
    JWTClaimsSet claims = new JWTClaimsSet.Builder(request.toJWTClaimsSet())
        .issuer(client.getValue()).audience(issuer.getValue()).notBeforeTime(now).expirationTime(new Date(now.getTime() + 60_000)).build();
    SignedJWT object = new SignedJWT(new JWSHeader.Builder(JWSAlgorithm.ES256).keyID(key.getKeyID()).build(), claims);
    object.sign(new ECDSASigner(key));
    HTTPResponse answer = new PushedAuthorizationRequest(server.getPushedAuthorizationRequestEndpointURI(), authentication(),
        new AuthorizationRequest.Builder(object, client).build()).toHTTPRequest().send();
    PushedAuthorizationResponse response = PushedAuthorizationResponse.parse(answer);
    check("PAR took the signed request", response.indicatesSuccess());
    return response.toSuccessResponse().getRequestURI();
  }

  /** JARM. */
  private AuthorizationCode answer(URI callback, State state) throws Exception {
    AuthorizationResponse response = AuthorizationResponse.parse(callback, new JARMValidator(issuer, client, JWSAlgorithm.ES256, keys()));
    check("JARM: signed, for this client, with state and issuer", response.indicatesSuccess() && state.equals(response.getState()));
    return response.toSuccessResponse().getAuthorizationCode();
  }

  private JWKSet keys() throws Exception {
    return JWKSet.load(server.getJWKSetURI().toURL());
  }

  /** A server that wants a nonce of its own is asked again with it (RFC 9449 §8). */
  private OIDCTokens exchange(AuthorizationGrant grant) throws Exception {
    for (int attempt = 0; ; attempt++) {
      HTTPRequest request = new TokenRequest.Builder(server.getTokenEndpointURI(), authentication(), grant).build().toHTTPRequest();
      request.setDPoP(proof(request, null));
      HTTPResponse answer = request.send();
      TokenResponse response = OIDCTokenResponseParser.parse(answer);
      if (!response.indicatesSuccess() && attempt == 0 && OAuth2Error.USE_DPOP_NONCE.equals(response.toErrorResponse().getErrorObject())) {
        serverNonce = answer.getDPoPNonce();
        continue;
      }
      check("tokens", response.indicatesSuccess());
      return ((OIDCTokenResponse) response.toSuccessResponse()).getOIDCTokens();
    }
  }

  private SignedJWT proof(HTTPRequest request, AccessToken token) throws Exception {
    if (token == null) {
      return proofs.createDPoPJWT(request.getMethod().name(), request.getURI(), serverNonce);
    }
    return proofs.createDPoPJWT(request.getMethod().name(), request.getURI(), token, serverNonce);
  }

  private void idToken(OIDCTokens tokens) throws Exception {
    new IDTokenValidator(issuer, client, JWSAlgorithm.ES256, keys()).validate(tokens.getIDToken(), nonce);
    check("the ID token, and a token bound by DPoP", tokens.getAccessToken() instanceof DPoPAccessToken);
  }

  private void call(OIDCTokens tokens) throws Exception {
    serverNonce = null;
    for (int attempt = 0; ; attempt++) {
      HTTPRequest request = new HTTPRequest(HTTPRequest.Method.GET, URI.create(resource));
      request.setAuthorization(((DPoPAccessToken) tokens.getAccessToken()).toAuthorizationHeader());
      request.setDPoP(proof(request, tokens.getAccessToken()));
      HTTPResponse answer = request.send();
      if (answer.getStatusCode() == 401 && attempt == 0 && answer.getDPoPNonce() != null) {
        serverNonce = answer.getDPoPNonce();
        continue;
      }
      check("the resource answers: " + answer.getStatusCode(), answer.getStatusCode() == 200);
      serverNonce = null;
      return;
    }
  }
}
