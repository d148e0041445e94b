(** T5 (c) [monotone]: G(y) = s(W y + c), s a proximal map, I - W strongly monotone; forward-backward splitting. *)
From Coq Require Import Reals Lra Lia FunctionalExtensionality.
From Coq Require Fin.
From Deqops Require Import Metric Picard BanachSpace HilbertSpace Activations.
From Deqops Require Import Vectors VectorSpace DotProduct Slopes Componentwise LocalLyapunov.
Local Open Scope R_scope.
Set Implicit Arguments.

Definition layer (n : nat) (s : Fin.t n -> R -> R) (W : mat n n) (c y : vec n) : vec n :=
  fun i => s i (apply W y i + c i).

(** (I - W) v. *)
Definition remainder (n : nat) (W : mat n n) (v : vec n) : vec n := difference v (apply W v).

(** J = prox_{a f} where s = prox_f: u - s(u) is a subgradient of f at s(u), and J(v) is the z with v - z in a times
    the subgradients at z. *)
Definition resolvent (a : R) (s J : R -> R) : Prop := forall v, exists u, J v = s u /\ v = s u + a * (u - s u).

Definition splitting (n : nat) (a : R) (J : Fin.t n -> R -> R) (W : mat n n) (c y : vec n) : vec n :=
  fun i => J i (y i - a * (remainder W y i - c i)).

Lemma monotone_pair s u u' : quotients (fun _ => True) 0 1 s ->
  0 <= (s u - s u') * ((u - s u) - (u' - s u')).
Proof.
  intros slope. destruct (Req_dec u u') as [<-|apart]; [right; ring|].
  pose proof (slope u u' I I apart) as range.
  replace (s u - s u') with ((s u - s u') / (u - u') * (u - u')) by (field; lra).
  set (t := (s u - s u') / (u - u')) in *.
  replace (u - s u - (u' - s u')) with ((1 - t) * (u - u')) by (unfold t; field; lra).
  pose proof (Rle_0_sqr (u - u')) as square. unfold Rsqr in square.
  replace (t * (u - u') * ((1 - t) * (u - u'))) with (t * (1 - t) * ((u - u') * (u - u'))) by ring.
  apply Rmult_le_pos; [nra | exact square].
Qed.

Lemma resolvent_shrinks a s u u' : 0 < a -> quotients (fun _ => True) 0 1 s ->
  let v := s u + a * (u - s u) in let v' := s u' + a * (u' - s u') in
  (s u - s u') * (s u - s u') <= (v - v') * (v - v').
Proof.
  intros a0 slope v v'. pose proof (monotone_pair u u' slope) as pair0.
  set (z := s u - s u') in *. set (g := u - s u - (u' - s u')) in *.
  replace (v - v') with (z + a * g) by (unfold v, v', z, g; ring).
  assert (0 <= 2 * a * (z * g) + a * a * (g * g)) by (pose proof (Rle_0_sqr g) as sq; unfold Rsqr in sq; nra). nra.
Qed.

Lemma quotients_continuous s : quotients (fun _ => True) 0 1 s -> continuity s.
Proof.
  intros slope x eps pos. exists eps. split; [exact pos|]. intros y [_ near]. simpl in *. unfold R_dist in *.
  apply Rle_lt_trans with (2 := near). destruct (Req_dec y x) as [->|apart].
  - unfold Rminus. rewrite !Rplus_opp_r. lra.
  - pose proof (slope y x I I apart) as range.
    replace (s y - s x) with ((s y - s x) / (y - x) * (y - x)) by (field; lra). rewrite Rabs_mult.
    rewrite <- (Rmult_1_l (Rabs (y - x))) at 2. apply Rmult_le_compat_r; [apply Rabs_pos|].
    rewrite Rabs_right; lra.
Qed.

Lemma resolvent_root a s v : 0 < a -> quotients (fun _ => True) 0 1 s -> {u | v = s u + a * (u - s u)}.
Proof.
  intros a0 slope. set (h := fun u => s u + a * (u - s u)). set (k := Rmin 1 a).
  assert (k0 : 0 < k) by (unfold k; apply Rmin_glb_lt; lra).
  assert (grows : forall u u', u < u' -> h u + k * (u' - u) <= h u').
  { intros u u' order. pose proof (slope u' u I I ltac:(lra)) as range.
    set (t := (s u' - s u) / (u' - u)) in *.
    assert (step : h u' = h u + (t + a * (1 - t)) * (u' - u)) by (unfold h, t; field; lra).
    rewrite step. apply Rplus_le_compat_l, Rmult_le_compat_r; [lra|].
    unfold k, Rmin. destruct (Rle_dec 1 a); nra. }
  set (far := (Rabs (v - h 0) + 1) / k). pose proof (Rabs_pos (v - h 0)) as d0.
  assert (far0 : 0 < far) by (apply Rdiv_lt_0_compat; lra).
  assert (scaled : k * far = Rabs (v - h 0) + 1) by (unfold far; field; lra).
  pose proof (quotients_continuous slope) as smooth.
  destruct (IVT (fun u => h u - v) (- far) far) as [u [_ root]].
  - apply continuity_minus; [|apply continuity_const; intros x y; reflexivity].
    apply continuity_plus; [exact smooth|]. apply continuity_mult; [apply continuity_const; intros x y; reflexivity|].
    apply continuity_minus; [apply derivable_continuous, derivable_id | exact smooth].
  - lra.
  - pose proof (grows (- far) 0 ltac:(lra)). pose proof (Rle_abs (- (v - h 0))) as low. rewrite Rabs_Ropp in low. lra.
  - pose proof (grows 0 far far0). pose proof (Rle_abs (v - h 0)). lra.
  - exists u. unfold h in root. lra.
Qed.

(** Every proximal map has its resolvents, for every a > 0. *)
Theorem resolvent_exists (n : nat) (s : Fin.t n -> R -> R) (a : R) : 0 < a ->
  (forall i, quotients (fun _ => True) 0 1 (s i)) -> exists J : Fin.t n -> R -> R, forall i, resolvent a (s i) (J i).
Proof.
  intros a0 slope. exists (fun i v => s i (proj1_sig (resolvent_root v a0 (slope i)))).
  intros i v. exists (proj1_sig (resolvent_root v a0 (slope i))). split; [reflexivity|].
  exact (proj2_sig (resolvent_root v a0 (slope i))).
Qed.


(** Every matrix is bounded in a weighted l2 norm. *)
Lemma remainder_bounded n (D : dot_product n) (W : mat n n) :
  exists L, 0 <= L /\ forall v, length D (remainder W v) <= L * length D v.
Proof.
  destruct (@seminorm_seen n (fun v => length D (remainder W v))) as [B [B0 seen]].
  - intros x y. replace (remainder W (fun i => x i + y i)) with (fun i => remainder W x i + remainder W y i).
    + apply length_add.
    + extensionality i. unfold remainder, difference, apply.
      rewrite (@sum_ext n (fun j => W i j * (x j + y j)) (fun j => W i j * x j + W i j * y j)), sum_add
        by (intros j; ring). ring.
  - intros a x. rewrite <- length_scale. f_equal. extensionality i. unfold remainder, difference, apply.
    rewrite (@sum_ext n (fun j => W i j * (a * x j)) (fun j => a * (W i j * x j))), sum_scale by (intros j; ring). ring.
  - destruct (length_sees D) as [C [C0 sees]]. exists (B * (INR n * C)).
    split; [apply Rmult_le_pos; [exact B0 | apply Rmult_le_pos; [apply pos_INR | exact C0]]|].
    intros v. apply Rle_trans with (1 := seen v). rewrite Rmult_assoc. apply Rmult_le_compat_l; [exact B0|].
    rewrite Rmult_assoc, <- sum_const. apply sum_le. apply sees.
Qed.

(** Projections onto intervals, and relu, are their own resolvents for every a; other maps need not be. *)
Theorem resolvent_projection (a low high : R) : 0 < a -> low <= high ->
  resolvent a relu relu /\ resolvent a (fun u => Rmax low (Rmin high u)) (fun u => Rmax low (Rmin high u))
  /\ (a <> 1 -> ~ resolvent a (fun u => u / 2) (fun u => u / 2)).
Proof.
  intros a0 order. assert (i0 : 0 < / a) by (apply Rinv_0_lt_compat; exact a0).
  assert (back : forall z v, v = z + a * (z + (v - z) * / a - z)) by (intros z v; field; lra).
  split; [|split].
  - intros v. exists (relu v + (v - relu v) * / a).
    assert (same : relu (relu v + (v - relu v) * / a) = relu v).
    { unfold relu. destruct (Rle_dec 0 v) as [pos|neg].
      - rewrite (Rmax_right 0 v) by lra. rewrite Rmax_right; [ring|]. unfold Rminus. rewrite Rplus_opp_r. lra.
      - rewrite (Rmax_left 0 v) by lra. apply Rmax_left. nra. }
    rewrite same. split; [reflexivity | apply back].
  - intros v. set (s := fun u => Rmax low (Rmin high u)). exists (s v + (v - s v) * / a).
    assert (same : s (s v + (v - s v) * / a) = s v).
    { unfold s. destruct (Rle_dec v low) as [under|above]; [|destruct (Rle_dec high v) as [over|inside]].
      - rewrite (Rmin_right high v), (Rmax_left low v) by lra.
        assert (low + (v - low) * / a <= low) by nra. rewrite Rmin_right, Rmax_left by lra. reflexivity.
      - rewrite (Rmin_left high v), (Rmax_right low high) by lra.
        assert (high <= high + (v - high) * / a) by nra. rewrite Rmin_left, Rmax_right by lra. reflexivity.
      - rewrite (Rmin_right high v), (Rmax_right low v) by lra.
        replace (v + (v - v) * / a) with v by ring. rewrite Rmin_right, Rmax_right by lra. reflexivity. }
    change (s v = s (s v + (v - s v) * / a)
      /\ v = s (s v + (v - s v) * / a) + a * (s v + (v - s v) * / a - s (s v + (v - s v) * / a))).
    rewrite same. split; [reflexivity | apply back].
  - intros apart self. destruct (self 1) as [u [same step]]. apply apart. nra.
Qed.

Section Splitting.
Variables (n : nat) (p : Fin.t n -> posreal) (W : mat n n) (s : Fin.t n -> R -> R) (c : vec n) (m : R).
Hypothesis slope : forall i, quotients (fun _ => True) 0 1 (s i).
Let D := weighted_product p.
Hypothesis monotone : forall v, m * dot D v v <= dot D v (remainder W v).

Lemma splitting_equilibria a J : 0 < a -> (forall i, resolvent a (s i) (J i)) -> forall y,
  splitting a J W c y = y <-> layer s W c y = y.
Proof.
  intros a0 prox y. split; intros fixed; extensionality i;
    apply (f_equal (fun v : vec n => v i)) in fixed; unfold splitting, layer, remainder, difference in *.
  - destruct (prox i (y i - a * (y i - apply W y i - c i))) as [u [value step]].
    rewrite fixed in value. rewrite <- value in step.
    assert (u = apply W y i + c i) as <-; [|symmetry; exact value].
    apply Rmult_eq_reg_l with a; [lra | lra].
  - destruct (prox i (y i - a * (y i - apply W y i - c i))) as [u [value step]].
    set (w := apply W y i + c i) in *.
    pose proof (resolvent_shrinks u w a0 (slope i)) as near. simpl in near.
    assert (here : s i w + a * (w - s i w) = y i - a * (y i - apply W y i - c i)).
    { unfold w in *. rewrite fixed. ring. }
    rewrite here, <- step in near.
    match type of near with _ <= ?e => replace e with 0 in near by ring end.
    rewrite value, <- fixed. apply Rminus_diag_uniq. apply Rsqr_0_uniq. unfold Rsqr.
    pose proof (Rle_0_sqr (s i u - s i w)) as sq. unfold Rsqr in sq. lra.
Qed.

Lemma splitting_contracts a L J : 0 < a -> (forall i, resolvent a (s i) (J i)) ->
  (forall v, length D (remainder W v) <= L * length D v) ->
  forall y z, length D (difference (splitting a J W c y) (splitting a J W c z))
    <= sqrt (1 - 2 * a * m + a ^ 2 * L ^ 2) * length D (difference y z).
Proof.
  intros a0 prox bounded y z. apply (root_bound (dot_space D)). set (v := difference y z).
  change (length D (difference (splitting a J W c y) (splitting a J W c z)) *
    length D (difference (splitting a J W c y) (splitting a J W c z))
    <= (1 - 2 * a * m + a ^ 2 * L ^ 2) * (length D v * length D v)).
  rewrite !length_square.
  apply Rle_trans with (dot D (fun i => 1 * v i + - a * remainder W v i) (fun i => 1 * v i + - a * remainder W v i)).
  - apply sum_le. intros i. pose proof (cond_pos (p i)). apply Rmult_le_compat_l; [lra|].
    unfold difference at 1 2, splitting.
    destruct (prox i (y i - a * (remainder W y i - c i))) as [u [-> step]].
    destruct (prox i (z i - a * (remainder W z i - c i))) as [u' [-> step']].
    pose proof (resolvent_shrinks u u' a0 (slope i)) as near. simpl in near. rewrite <- step, <- step' in near.
    apply Rle_trans with (1 := near). right. f_equal; unfold v, remainder; rewrite apply_difference;
      unfold difference; ring.
  - rewrite dot_combination, <- !length_square.
    pose proof (monotone v) as mono. rewrite <- length_square in mono.
    pose proof (bounded v) as small. pose proof (sqrt_pos (dot D (remainder W v) (remainder W v))) as r0.
    fold (length D (remainder W v)) in r0.
    set (r := length D (remainder W v)) in *. set (l := length D v) in *. set (i := dot D v (remainder W v)) in *.
    assert (squares : r * r <= (L * l) * (L * l)) by (apply Rmult_le_compat; assumption).
    assert (a * a * (r * r) <= a * a * ((L * l) * (L * l))) by (apply Rmult_le_compat_l; nra).
    assert (2 * a * (m * (l * l)) <= 2 * a * i) by (apply Rmult_le_compat_l; lra).
    simpl. nra.
Qed.
End Splitting.

(** [monotone] says P (I - W) + (I - W)^T P >= 2 m P, P = diag(p); L bounds |P^1/2 (I - W) P^-1/2|_2. *)
Theorem monotone_resolvent (n : nat) (p : Fin.t n -> posreal) (W : mat n n) (s : Fin.t n -> R -> R) (c : vec n)
  (m : R) :
  (forall i, quotients (fun _ => True) 0 1 (s i)) -> 0 < m ->
  (forall v, m * sum (fun i => p i * (v i * v i)) <= sum (fun i => p i * (v i * remainder W v i))) ->
  let size := fun v : vec n => sqrt (sum (fun i => p i * (v i * v i))) in
  exists y, layer s W c y = y
  /\ (forall t, layer s W c t = t -> t = y)
  /\ forall (L a : R) (J : Fin.t n -> R -> R),
       (forall v, size (remainder W v) <= L * size v) -> 0 < a -> a * L ^ 2 < 2 * m ->
       (forall i, resolvent a (s i) (J i)) ->
       let rate := sqrt (1 - 2 * a * m + a ^ 2 * L ^ 2) in
       rate < 1
       /\ (forall x z, size (difference (splitting a J W c x) (splitting a J W c z)) <= rate * size (difference x z))
       /\ forall z0 i eps, 0 < eps ->
            exists K, forall k, (K <= k)%nat -> Rabs (Nat.iter k (splitting a J W c) z0 i - y i) < eps.
Proof.
  intros slope m0 mono size. set (D := weighted_product p). set (E := dot_space D).
  assert (rates : forall L a, 0 < a -> a * L ^ 2 < 2 * m -> 0 <= sqrt (1 - 2 * a * m + a ^ 2 * L ^ 2) < 1).
  { intros L a a0 step. split; [apply sqrt_pos|].
    assert (gain : 0 < a * (2 * m - a * L ^ 2)) by (apply Rmult_lt_0_compat; lra).
    assert (below : 1 - 2 * a * m + a ^ 2 * L ^ 2 < 1) by (simpl in *; lra).
    destruct (Rle_lt_dec 0 (1 - 2 * a * m + a ^ 2 * L ^ 2)).
    - apply Rlt_le_trans with (sqrt 1); [apply sqrt_lt_1_alt; lra | rewrite sqrt_1; lra].
    - rewrite sqrt_neg_0 by lra. lra. }
  assert (lips : forall L a J, 0 < a -> (forall i, resolvent a (s i) (J i)) ->
            (forall v, size (remainder W v) <= L * size v) ->
            lipschitz (metric E) (fun _ => True) (sqrt (1 - 2 * a * m + a ^ 2 * L ^ 2)) (splitting a J W c)).
  { intros L a J a0 prox bounded y z _ _. exact (@splitting_contracts n p W s c m slope mono a L J a0 prox bounded
      y z). }
  assert (stays : forall F, invariant (metric E) (fun _ => True) F) by (intros F y _; exact I).
  destruct (remainder_bounded D W) as [L [L0 bounded]].
  set (a := m / (L ^ 2 + 1)).
  assert (pos : 0 < L ^ 2 + 1) by nra.
  assert (a0 : 0 < a) by (apply Rdiv_lt_0_compat; lra).
  assert (scaled : a * (L ^ 2 + 1) = m) by (unfold a; field; lra).
  assert (step : a * L ^ 2 < 2 * m) by lra.
  destruct (resolvent_exists s a0 slope) as [J prox].
  destruct (picard (rates L a a0 step) (stays _) (lips L a J a0 prox bounded) (@metric_complete E) c I)
    as [y [_ [fixed [only _]]]].
  assert (one : forall t, layer s W c t = t -> t = y).
  { intros t ft. apply only; [exact I|]. exact (proj2 (@splitting_equilibria n W s c slope a J a0 prox t) ft). }
  exists y. split; [exact (proj1 (@splitting_equilibria n W s c slope a J a0 prox y) fixed)|]. split; [exact one|].
  intros L' a' J' bounded' a0' step' prox' rate.
  split; [exact (proj2 (rates L' a' a0' step'))|].
  split; [intros x z; exact (lips L' a' J' a0' prox' bounded' x z I I)|].
  intros z0. destruct (picard (rates L' a' a0' step') (stays _) (lips L' a' J' a0' prox' bounded')
    (@metric_complete E) z0 I)
    as [y' [_ [fixed' [_ [conv _]]]]].
  rewrite (one y' (proj1 (@splitting_equilibria n W s c slope a' J' a0' prox' y') fixed')) in conv.
  destruct (conv z0 I) as [lim _]. intros i eps eps0.
  destruct (@entry_tends n _ _ _ lim i eps eps0) as [K HK]. exists K. intros k late.
  rewrite (iterate_iter (metric E)). exact (HK k late).
Qed.

(** The hypotheses can be met far from T1's: relu behind a turn by a quarter that enlarges 27 times. *)
Theorem monotone_resolvent_instance : let p := fun _ : Fin.t 2 => mkposreal 1 Rlt_0_1 in let W := square 0 27 (-27) 0 in
  quotients (fun _ => True) 0 1 relu /\ (forall a, 0 < a -> resolvent a relu relu)
  /\ (forall v, 1 * sum (fun i => p i * (v i * v i)) <= sum (fun i => p i * (v i * remainder W v i)))
  /\ (forall v, sqrt (sum (fun i => p i * (remainder W v i * remainder W v i)))
                  = sqrt 730 * sqrt (sum (fun i => p i * (v i * v i))))
  /\ relu (apply W (pair 0 1) Fin.F1) - relu (apply W (pair 0 0) Fin.F1) = 27.
Proof.
  intros p W. split; [exact (proj1 slopes_activations)|].
  split; [intros a a0; exact (proj1 (@resolvent_projection a 0 1 a0 Rle_0_1))|].
  split; [|split].
  - intros v. rewrite !sum_pair. unfold remainder, difference, W. rewrite apply_square. simpl. right. ring.
  - intros v. rewrite <- sqrt_mult_alt by lra. f_equal. rewrite !sum_pair. unfold remainder, difference, W.
    rewrite apply_square. simpl. ring.
  - unfold W. rewrite !apply_square. unfold relu. simpl. rewrite Rmax_right, Rmax_left by lra. ring.
Qed.
