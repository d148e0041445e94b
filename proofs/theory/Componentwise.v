(** T13 [componentwise] (Perov): |G(y) - G(z)| <= N |y - z| entry by entry on a closed box that G keeps. *)
From Coq Require Import Reals Lra Lia FunctionalExtensionality.
From Coq Require Fin.
From Deqops Require Import Metric Picard BanachSpace Vectors VectorSpace Slopes.
Local Open Scope R_scope.
Set Implicit Arguments.

(** A closed box; a side that is [None] is unbounded. *)
Definition box (n : nat) (low high : Fin.t n -> option R) (y : vec n) : Prop :=
  forall i, match low i with Some l => l <= y i | None => True end
         /\ match high i with Some h => y i <= h | None => True end.

Lemma limit_below (u : nat -> R) l h : (forall k, u k <= h) ->
  (forall eps, 0 < eps -> exists N, forall k, (N <= k)%nat -> Rabs (u k - l) < eps) -> l <= h.
Proof.
  intros below lim. apply Rnot_lt_le. intros above. destruct (lim (l - h)) as [N HN]; [lra|].
  specialize (HN N (le_n N)). specialize (below N). unfold Rabs in HN. destruct Rcase_abs in HN; lra.
Qed.

Lemma entry_tends n (E : vector_norm n) (u : nat -> vec n) l : tends (metric (vector_space E)) u l ->
  forall i eps, 0 < eps -> exists N, forall k, (N <= k)%nat -> Rabs (u k i - l i) < eps.
Proof.
  intros lim i eps pos. destruct (size_sees E) as [C sees]. pose proof (Rabs_pos C). pose proof (Rle_abs C).
  destruct (lim (eps / (Rabs C + 1))) as [N HN]; [apply Rdiv_lt_0_compat; lra|].
  exists N. intros k later. specialize (HN k later).
  pose proof (sees (sub (vector_space E) (u k) l) i) as near.
  pose proof (norm_nonneg (vector_space E) (sub (vector_space E) (u k) l)) as v0. simpl in *.
  change (Rabs (u k i + - l i) < eps). unfold sub in *; simpl in *.
  set (v := size E _) in *.
  assert ((Rabs C + 1) * v < eps).
  { apply Rmult_lt_compat_l with (r := Rabs C + 1) in HN; [|lra].
    replace ((Rabs C + 1) * (eps / (Rabs C + 1))) with eps in HN by (field; lra). exact HN. }
  nra.
Qed.

Lemma box_complete n (E : vector_norm n) low high : complete (metric (vector_space E)) (box low high).
Proof.
  intros u inside cau. destruct (@metric_complete (vector_space E) u (fun _ => I) cau) as [l [_ lim]].
  exists l. split; [|exact lim]. intros i. pose proof (@entry_tends n E u l lim i) as near. split.
  - destruct (low i) as [a|] eqn:side; [|exact I].
    apply Ropp_le_cancel, (@limit_below (fun k => - u k i)).
    + intros k. destruct (inside k i) as [b _]. rewrite side in b. lra.
    + intros eps pos. destruct (near eps pos) as [N HN]. exists N. intros k later.
      replace (- u k i - - l i) with (- (u k i - l i)) by ring. rewrite Rabs_Ropp. auto.
  - destruct (high i) as [h|] eqn:side; [|exact I].
    apply (@limit_below (fun k => u k i)); [|exact near].
    intros k. destruct (inside k i) as [_ b]. now rewrite side in b.
Qed.

Definition inverse_weights (n : nat) (x : vec n) (pos : forall i, 0 < x i) (i : Fin.t n) : posreal :=
  mkposreal (/ x i) (Rinv_0_lt_compat _ (pos i)).

Section Perov.
Variables (n : nat) (N : mat n n) (x : vec n) (q : R).
Hypothesis nonnegative : forall i j, 0 <= N i j.
Hypothesis positive : forall i, 0 < x i.
Hypothesis q_range : 0 <= q < 1.
Hypothesis growth : forall i, apply N x i <= q * x i.
Let E := vector_space (sup_norm (inverse_weights x positive)).

Lemma apply_monotone u v i : (forall j, u j <= v j) -> apply N u i <= apply N v i.
Proof. intros below. apply sum_le. intros j. apply Rmult_le_compat_l; [apply nonnegative | apply below]. Qed.

Lemma apply_bounded u c i : 0 <= c -> (forall j, u j <= c * x j) -> apply N u i <= c * (q * x i).
Proof.
  intros c0 below. apply Rle_trans with (1 := apply_monotone _ _ i below).
  apply Rle_trans with (c * apply N x i).
  - right. unfold apply. rewrite <- sum_scale. apply sum_ext. intros j. ring.
  - apply Rmult_le_compat_l; [exact c0 | apply growth].
Qed.

Lemma entry_below (u : vec n) i : Rabs (u i) <= norm E u * x i.
Proof.
  pose proof (positive i) as pos. apply Rmult_le_reg_l with (/ x i); [apply Rinv_0_lt_compat; exact pos|].
  replace (/ x i * (norm E u * x i)) with (norm E u) by (field; lra).
  exact (most_term (weighed (inverse_weights x positive) u) i).
Qed.

Lemma norm_below (u : vec n) c : 0 <= c -> (forall i, Rabs (u i) <= c * x i) -> norm E u <= c.
Proof.
  intros c0 below. apply most_lub; [exact c0|]. intros i. pose proof (positive i) as pos.
  unfold weighed; simpl. apply Rmult_le_reg_l with (1 := pos).
  rewrite <- Rmult_assoc, Rinv_r, Rmult_1_l, Rmult_comm by lra. apply below.
Qed.

(** The weighted sup norm makes a contraction of what |N| bounds. *)
Lemma perov_contracts (S : vec n -> Prop) (G : vec n -> vec n) :
  (forall y z, S y -> S z -> forall i, Rabs (G y i - G z i) <= apply N (fun j => Rabs (y j - z j)) i) ->
  lipschitz (metric E) S q G.
Proof.
  intros shrinks y z Sy Sz. pose proof (norm_nonneg E (sub E y z)) as d0.
  apply norm_below; [simpl in *; nra|]. intros i. apply Rle_trans with (1 := shrinks y z Sy Sz i).
  set (d := norm E (sub E y z)) in *. change (dist (metric E) y z) with d.
  replace (q * d * x i) with (d * (q * x i)) by ring.
  apply apply_bounded; [exact d0|]. intros j. exact (entry_below (sub E y z) j).
Qed.

(** Whatever is below itself under N, up to r, is below every upper solution of e = r + N e. *)
Lemma perov_comparison (d r e : vec n) : (forall i, d i <= r i + apply N d i) -> (forall i, r i + apply N e i <= e i) ->
  forall i, d i <= e i.
Proof.
  intros lower upper. set (c := most (fun i => (d i - e i) / x i)).
  assert (c0 : 0 <= c) by apply most_nonneg.
  assert (below : forall i, d i - e i <= c * x i).
  { intros i. pose proof (positive i) as pos.
    replace (d i - e i) with ((d i - e i) / x i * x i) by (field; lra).
    apply Rmult_le_compat_r; [lra|]. exact (most_term (fun i => (d i - e i) / x i) i). }
  assert (c <= q * c).
  { apply most_lub; [nra|]. intros i. pose proof (positive i) as pos.
    apply Rmult_le_reg_r with (1 := pos). replace ((d i - e i) / x i * x i) with (d i - e i) by (field; lra).
    pose proof (apply_bounded (difference d e) i c0 below) as step.
    rewrite apply_difference in step. unfold difference in step.
    pose proof (lower i). pose proof (upper i). lra. }
  intros i. specialize (below i). pose proof (positive i). assert (c = 0) by nra. subst c. nra.
Qed.

(** I - N is invertible. *)
Lemma perov_inverse (r : vec n) : exists e : vec n, (forall i, e i = r i + apply N e i)
  /\ forall e' : vec n, (forall i, e' i = r i + apply N e' i) -> e' = e.
Proof.
  set (F := fun (e : vec n) i => r i + apply N e i).
  assert (contracts : lipschitz (metric E) (fun _ => True) q F).
  { apply perov_contracts. intros y z _ _ i. unfold F.
    replace (r i + apply N y i - (r i + apply N z i)) with (apply N (difference y z) i)
      by (rewrite apply_difference; unfold difference; ring).
    apply Rle_trans with (1 := apply_abs N (difference y z) i). right. apply sum_ext. intros j.
    rewrite Rabs_right by (apply Rle_ge, nonnegative). reflexivity. }
  assert (stays : invariant (metric E) (fun _ => True) F) by (intros y _; exact I).
  destruct (picard q_range stays contracts (@metric_complete E) r I) as [e [_ [fixed [only _]]]].
  exists e. split.
  - intros i. pose proof (f_equal (fun v : vec n => v i) fixed) as here. symmetry. exact here.
  - intros e' solves. apply only; [exact I|].
    apply (functional_extensionality (F e') e'). intros i. symmetry. apply solves.
Qed.
End Perov.

(** The last part is |y - s| <= (I - N)^-1 |G(y) - y|, whose right-hand side is the one solution e of
    e = |G(y) - y| + N e; every e' that is at least |G(y) - y| + N e' bounds too. *)
Theorem componentwise (n : nat) (low high : Fin.t n -> option R) (G : vec n -> vec n) (N : mat n n)
  (x : vec n) (q : R) :
  (exists y, box low high y) -> (forall y, box low high y -> box low high (G y)) ->
  (forall y z, box low high y -> box low high z ->
     forall i, Rabs (G y i - G z i) <= apply N (fun j => Rabs (y j - z j)) i) ->
  (forall i j, 0 <= N i j) -> (forall i, 0 < x i) -> 0 <= q < 1 -> (forall i, apply N x i <= q * x i) ->
  exists s, box low high s /\ G s = s
  /\ (forall t, box low high t -> G t = t -> t = s)
  /\ (forall z0, box low high z0 -> forall i eps, 0 < eps ->
        exists K, forall k, (K <= k)%nat -> Rabs (Nat.iter k G z0 i - s i) < eps)
  /\ (forall y, box low high y ->
        (exists e : vec n, (forall i, e i = Rabs (G y i - y i) + apply N e i)
           /\ (forall e' : vec n, (forall i, e' i = Rabs (G y i - y i) + apply N e' i) -> e' = e)
           /\ forall i, Rabs (y i - s i) <= e i)
        /\ (forall e : vec n, (forall i, Rabs (G y i - y i) + apply N e i <= e i) ->
              forall i, Rabs (y i - s i) <= e i)).
Proof.
  intros [y0 inside] stays shrinks nonnegative positive range growth.
  set (E := vector_space (sup_norm (inverse_weights x positive))).
  assert (contracts : lipschitz (metric E) (box low high) q G).
  { exact (@perov_contracts n N x q nonnegative positive range growth (box low high) G shrinks). }
  destruct (@picard (metric E) (box low high) G q range stays contracts (@box_complete n _ low high) y0 inside)
    as [s [Ss [fixed [only [conv _]]]]].
  exists s. split; [exact Ss|]. split; [exact fixed|]. split; [exact only|].
  assert (bound : forall y, box low high y -> forall e : vec n, (forall i, Rabs (G y i - y i) + apply N e i <= e i) ->
            forall i, Rabs (y i - s i) <= e i).
  { intros y Sy e upper.
    apply (@perov_comparison n N x q nonnegative positive range growth (fun i => Rabs (y i - s i))
             (fun i => Rabs (G y i - y i)) e); [|exact upper].
    intros i. pose proof (shrinks y s Sy Ss i) as step. rewrite fixed in step.
    pose proof (Rabs_triang (- (G y i - y i)) (G y i - s i)) as t. rewrite Rabs_Ropp in t.
    replace (- (G y i - y i) + (G y i - s i)) with (y i - s i) in t by ring. lra. }
  split.
  - intros z0 S0 i eps pos. destruct (conv z0 S0) as [lim _].
    destruct (@entry_tends n _ _ _ lim i eps pos) as [K HK]. exists K. intros k later.
    replace (Nat.iter k G z0) with (iterate (metric E) G z0 k); [exact (HK k later)|].
    clear. induction k as [|k IH]; simpl; [reflexivity|]. now rewrite IH.
  - intros y Sy. split; [|exact (bound y Sy)].
    destruct (@perov_inverse n N x q nonnegative positive range growth (fun i => Rabs (G y i - y i)))
      as [e [solves one]].
    exists e. split; [exact solves|]. split; [exact one|]. apply bound; [exact Sy|].
    intros i. rewrite <- solves. lra.
Qed.

(** The hypotheses can be met: one layer with slopes in [-1, 1], N = |W|, on the whole space. *)
Theorem componentwise_layer (n : nat) (s : Fin.t n -> R -> R) (W : mat n n) (c x : vec n) (q : R) :
  (forall i, quotients (fun _ => True) (-1) 1 (s i)) ->
  (forall i, 0 < x i) -> 0 <= q < 1 -> (forall i, apply (fun i j => Rabs (W i j)) x i <= q * x i) ->
  let G := fun (y : vec n) i => s i (apply W y i + c i) in
  exists y, G y = y /\ (forall t, G t = t -> t = y)
  /\ forall z0 i eps, 0 < eps -> exists K, forall k, (K <= k)%nat -> Rabs (Nat.iter k G z0 i - y i) < eps.
Proof.
  intros unit positive range growth G.
  set (free := fun _ : Fin.t n => @None R).
  assert (all : forall y, box free free y) by (intros y i; split; exact I).
  destruct (@componentwise n free free G (fun i j => Rabs (W i j)) x q) as [y [_ [fixed [only [conv _]]]]]; auto.
  - exists c. apply all.
  - intros y z _ _ i. unfold G.
    set (p := apply W y i + c i). set (p' := apply W z i + c i).
    assert (same : p - p' = apply W (difference y z) i).
    { rewrite apply_difference. unfold difference, p, p'. ring. }
    apply Rle_trans with (Rabs (p - p')).
    + destruct (Req_dec p p') as [<-|apart]; [unfold Rminus; rewrite !Rplus_opp_r; lra|].
      pose proof (unit i p p' I I apart) as t.
      replace (s i p - s i p') with ((s i p - s i p') / (p - p') * (p - p')) by (field; lra).
      rewrite Rabs_mult. rewrite <- (Rmult_1_l (Rabs (p - p'))) at 2.
      apply Rmult_le_compat_r; [apply Rabs_pos | apply Rabs_le; exact t].
    + rewrite same. exact (apply_abs W (difference y z) i).
  - intros i j. apply Rabs_pos.
  - exists y. split; [exact fixed|]. split; [intros t ft; exact (only t (all t) ft)|].
    intros z0. exact (conv z0 (all z0)).
Qed.
